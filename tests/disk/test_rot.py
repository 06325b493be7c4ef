"""Each single-byte flip is found at the depth that FORMAT.md promises; a report never raises."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from smartcash_format.disk.observe import validate
from smartcash_format.spec import layout
from smartcash_format.spec.meta import parse_meta
from smartcash_format.spec.problems import Depth
from smartcash_format.testing.sample import write_sample

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("root"), epoch=1)


def header_bytes(path: Path) -> int:
    return 8 + int.from_bytes((path / WEIGHTS).read_bytes()[:8], "little")


def flips(data: bytes, places: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """The data with one byte changed, at each of these places: another bit each time."""
    for place in places:
        yield place, data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]


def unseen(path: Path, name: str, places: Iterable[int], depth: Depth) -> list[int]:
    """Where a flipped byte goes unseen at a depth."""
    whole = (path / name).read_bytes()
    found = []
    try:
        for place, changed in flips(whole, places):
            (path / name).write_bytes(changed)
            if validate(path, depth).valid:
                found.append(place)
    finally:
        (path / name).write_bytes(whole)
    assert validate(path, Depth.CONTENT).valid
    return found


def test_each_flipped_byte_of_meta_is_found_whenever_it_is_read(path: Path) -> None:
    data = (path / layout.META).read_bytes()
    missed = [at for at, changed in flips(data, range(len(data))) if parse_meta(changed)[0]]
    assert missed == []


def test_a_flipped_byte_of_meta_is_found_at_meta(path: Path) -> None:
    size = (path / layout.META).stat().st_size
    assert unseen(path, layout.META, range(0, size, 50), Depth.META) == []


@pytest.mark.no_cover
@pytest.mark.parametrize("name", [layout.TENSORS, layout.OPTIMIZER, WEIGHTS])
def test_a_flipped_byte_of_any_file_is_found_at_content(path: Path, name: str) -> None:
    size = (path / name).stat().st_size
    assert unseen(path, name, range(0, size, 13), Depth.CONTENT) == []


def test_a_flipped_byte_in_a_header_or_program_never_stops_a_report(path: Path) -> None:
    for name in (layout.TENSORS, layout.OPTIMIZER, WEIGHTS):
        size = (path / name).stat().st_size
        unseen(path, name, range(1, size, 13), Depth.STRUCTURE)


def test_a_flipped_byte_of_a_header_that_names_or_places_a_tensor_is_found_at_structure(
    path: Path,
) -> None:
    data = (path / WEIGHTS).read_bytes()[: header_bytes(path)]
    # The rest is the one word of metadata, which only the digest of the file holds.
    metadata = range(data.index(b'{"format"'), data.index(b'{"format"') + len('{"format":"pt"}'))
    places = [at for at in range(0, len(data), 5) if at not in metadata]
    assert unseen(path, WEIGHTS, places, Depth.STRUCTURE) == []


# Each kind of file that a checkpoint may have, in two checkpoints: a released one with a second
# weight set, scheduler and extra state, and one whose weights lie in several files.
GOLDEN = (
    Path(__file__).parents[1] / "golden" / "v1.0" / "root" / "epoch-0001-step-00000002-bfea30d7"
)
KINDS = [
    "ema.safetensors", "extra.pt", "model.safetensors", "optimizer.pt", "scheduler.pt",
    "tensors.json",
]  # fmt: skip


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path_factory.mktemp("golden") / GOLDEN.name))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from smartcash_format.manager.checkpoint_manager import CheckpointManager

    keeper = CheckpointManager(tmp_path_factory.mktemp("root"), max_shard_size=300)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    path = keeper.save_checkpoint(model, epoch=1)["path"]
    assert isinstance(path, Path)
    return path


def test_the_golden_one_has_each_kind_of_file(golden: Path) -> None:
    assert sorted(os.listdir(golden)) == sorted([*KINDS, layout.META])


@pytest.mark.no_cover
@pytest.mark.parametrize("name", KINDS)
def test_a_flipped_byte_of_each_kind_of_file_is_found_at_content(golden: Path, name: str) -> None:
    size = (golden / name).stat().st_size
    assert unseen(golden, name, range(0, size, max(1, size // 50)), Depth.CONTENT) == []


def test_of_what_is_damaged_in_many_files_the_tensors_are_told_before_the_state(
    golden: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(golden, tmp_path / golden.name)
    for name in KINDS:
        data = bytearray((path / name).read_bytes())
        data[0] ^= 0xFF
        (path / name).write_bytes(data)
    found = [problem.where for problem in validate(path, Depth.CONTENT).problems]
    weights = ["ema.safetensors", WEIGHTS]
    assert found[:6] == [*weights, layout.TENSORS, "extra.pt", "optimizer.pt", "scheduler.pt"]


@pytest.mark.torture
@pytest.mark.parametrize("name", KINDS)
def test_each_flipped_byte_of_each_kind_of_file_is_found_at_content(
    golden: Path, name: str
) -> None:
    size = (golden / name).stat().st_size
    assert unseen(golden, name, range(size), Depth.CONTENT) == []


@pytest.mark.torch
def test_a_flipped_byte_of_a_shard_or_its_index_is_found_at_content(sharded: Path) -> None:
    names = [name for name in os.listdir(sharded) if name.startswith("model")]
    assert len(names) > 2
    assert "model.safetensors.index.json" in names
    for name in names:
        size = (sharded / name).stat().st_size
        assert unseen(sharded, name, range(0, size, 17), Depth.CONTENT) == []


@pytest.mark.torture
@pytest.mark.parametrize("name", [layout.META, layout.TENSORS, layout.OPTIMIZER, WEIGHTS])
def test_each_flipped_byte_of_a_small_file_is_found_at_content(path: Path, name: str) -> None:
    size = (path / name).stat().st_size
    assert unseen(path, name, range(size), Depth.CONTENT) == []


@pytest.mark.torture
def test_each_flipped_byte_of_a_header_is_found_at_structure(path: Path) -> None:
    missed = unseen(path, WEIGHTS, range(header_bytes(path)), Depth.STRUCTURE)
    metadata = b'{"format":"pt"}'
    begin = (path / WEIGHTS).read_bytes().index(metadata)
    assert {*missed} <= {*range(begin, begin + len(metadata))}


@pytest.mark.torture
def test_two_thousand_flips_in_large_weights_are_found_at_content(tmp_path: Path) -> None:
    path = write_sample(tmp_path, epoch=1, floats=300_000)
    places = random.Random(0).sample(range((path / WEIGHTS).stat().st_size), 2_000)
    assert unseen(path, WEIGHTS, places, Depth.CONTENT) == []
