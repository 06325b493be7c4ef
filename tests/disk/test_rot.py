"""Each single-byte flip is found at the depth that FORMAT.md promises; a report never raises."""

from __future__ import annotations

import random
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


@pytest.mark.torture
@pytest.mark.parametrize("name", [layout.META, layout.TENSORS, layout.OPTIMIZER, WEIGHTS])
def test_each_flipped_byte_of_a_small_file_is_found_at_content(path: Path, name: str) -> None:
    size = (path / name).stat().st_size
    assert unseen(path, name, range(size), Depth.CONTENT) == []


@pytest.mark.torture
def test_each_flipped_byte_of_a_header_is_found_at_structure(path: Path) -> None:
    missed = unseen(path, WEIGHTS, range(header_bytes(path)), Depth.STRUCTURE)
    data = (path / WEIGHTS).read_bytes()
    assert bytes(data[place] for place in missed) in b'{"format":"pt"}'


@pytest.mark.torture
def test_two_thousand_flips_in_large_weights_are_found_at_content(tmp_path: Path) -> None:
    path = write_sample(tmp_path, epoch=1, floats=300_000)
    places = random.Random(0).sample(range((path / WEIGHTS).stat().st_size), 2_000)
    assert unseen(path, WEIGHTS, places, Depth.CONTENT) == []
