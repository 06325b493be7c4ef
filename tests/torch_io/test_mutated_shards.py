"""A sharded checkpoint with something changed in it: what passes here, safetensors opens alike.

meta.json is written anew each time, with the sizes and digests of the files and with all that
tensors.json says of the weights, so that only documents that contradict each other give it away.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from smartcash_format.disk.observe import validate
from smartcash_format.spec.meta import Meta, WeightSet, parse_meta
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.tensors import parse_tensors
from smartcash_format.torch_io.save import save
from tests.torch_io.handmade import reseal
from tests.torch_io.saving import facts
from tests.torch_io.zoo import stepped

pytestmark = [pytest.mark.torch, pytest.mark.no_cover]

INDEX = "model.safetensors.index.json"
MANIFEST = "tensors.json"
SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
FILES = [*SHARDS, "ema.safetensors", INDEX, MANIFEST]
# What stands in one of the documents for something else.
WORDS: list[Any] = [
    *SHARDS, "ema.safetensors", "model.safetensors", "model-00004-of-00003.safetensors", INDEX,
    "../model.safetensors", "", "a.weight", "b", "c", "other", 0, 1, 16, 64, -1, 1.5, None, [], {},
    [4, 4], [2, 8], [16], "F32", "F16", "I32", "BF16",
]  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    training = stepped("AdamW")
    return save(
        tmp_path_factory.mktemp("sound") / "checkpoint",
        facts(),
        model=training.model,
        extra={"ema": nn.Linear(4, 1)},
        max_shard_bytes=128,
    ).path


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work") / "checkpoint"


def meta_of(path: Path) -> Meta:
    meta, problems = parse_meta((path / "meta.json").read_bytes())
    assert meta is not None, problems
    return meta


def seen_by_safetensors(path: Path) -> dict[str, dict[str, tuple[str, list[int]]]]:
    """File to name to dtype and shape of all weights that meta.json lists, as safe_open has them.

    Raises what it raises for a file that is none of its.
    """
    found = {}
    for name, record in meta_of(path).files.items():
        if record.role == "weights":
            with safe_open(path / name, framework="pt") as shard:
                slices = {each: shard.get_slice(each) for each in shard.keys()}  # noqa: SIM118
                found[name] = {n: (s.get_dtype(), s.get_shape()) for n, s in slices.items()}
    return found


def restated(path: Path) -> dict[str, WeightSet]:
    """What meta.json says of the weights, as tensors.json has them now, if it can be read."""
    weights = meta_of(path).weights
    tensors, _ = parse_tensors((path / MANIFEST).read_bytes())
    for name, found in (tensors.weights if tensors else {}).items():
        if name in weights:
            dtypes = Counter(dtype for _, dtype, _, _ in found.lines())
            changes = {
                "tensors": dtypes.total(),
                "dtypes": dict(dtypes),
                "weights_digest": found.weights_digest,
            }
            weights = {**weights, name: weights[name].model_copy(update=changes)}
    return weights


def check(sound: Path, work: Path, change: Callable[[Path], object]) -> bool:
    """Whether the checkpoint passes with this change; then others have to see it alike."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(sound, work)
    change(work)
    reseal(work, weights=restated(work))
    if not validate(work, Depth.STRUCTURE).valid:
        return False
    files = seen_by_safetensors(work)
    weight_map = json.loads((work / INDEX).read_bytes())["weight_map"]
    assert weight_map == {name: file for file in SHARDS for name in files[file]}
    weights = json.loads((work / MANIFEST).read_bytes())["weights"]
    stated = {
        (record["file"], name): (record["dtype"], record["shape"])
        for each in weights.values()
        for name, record in each["tensors"].items()
    }
    assert stated == {(file, name): seen for file in files for name, seen in files[file].items()}
    return True


def test_what_is_not_changed_passes(sound: Path, work: Path) -> None:
    assert check(sound, work, lambda path: None)


def in_bytes(path: Path, where: float, edit: str, value: int) -> None:
    """Changes one byte of a file, or its length."""
    data = bytearray(path.read_bytes())
    at = int(where * len(data))
    match edit:
        case "flip":
            data[at] = value
        case "drop":
            del data[at]
        case "insert":
            data.insert(at, value)
        case "cut":
            del data[at:]
        case "tail":
            data += bytes([value]) * (1 + at % 64)
        case "digit":
            data[at : at + 1] = b"%d" % (value % 10)
        case "length":
            length = struct.unpack_from("<Q", data)[0] + value - 128
            data[:8] = struct.pack("<Q", length % (1 << 64))
    path.write_bytes(data)


@settings(max_examples=200)
@given(
    file=st.sampled_from(FILES),
    where=st.floats(0, 1, exclude_max=True),
    edit=st.sampled_from(["flip", "drop", "insert", "cut", "tail", "digit", "length"]),
    value=st.integers(0, 255),
)
def test_bytes_of_a_shard_an_index_or_a_manifest_are_changed(
    sound: Path, work: Path, file: str, where: float, edit: str, value: int
) -> None:
    check(sound, work, lambda path: in_bytes(path / file, where, edit, value))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in a document."""
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    return [path, *(each for key in keys for each in places(value[key], (*path, key)))]


def in_document(path: Path, where: float, edit: str, word: Any) -> None:
    """Changes what stands at one place of a JSON document."""
    document = json.loads(path.read_bytes())
    found = places(document)[1:]
    *outer, key = found[int(where * len(found))]
    holder = document
    for each in outer:
        holder = holder[each]
    match edit:
        case "set":
            holder[key] = word
        case "drop":
            del holder[key]
        case "rename" if isinstance(holder, dict):
            holder[str(word)] = holder.pop(key)
        case "double" if isinstance(holder, dict):
            holder[str(word)] = holder[key]
        case "double":
            holder.append(holder[key])
    path.write_text(json.dumps(document))


@settings(max_examples=300)
@example(file=INDEX, where=0.5, edit="set", word=SHARDS[0])
@example(file=MANIFEST, where=0.9, edit="set", word=SHARDS[0])
@given(
    file=st.sampled_from([INDEX, MANIFEST]),
    where=st.floats(0, 1, exclude_max=True),
    edit=st.sampled_from(["set", "drop", "rename", "double"]),
    word=st.sampled_from(WORDS),
)
def test_an_index_or_a_manifest_says_something_else(
    sound: Path, work: Path, file: str, where: float, edit: str, word: Any
) -> None:
    check(sound, work, lambda path: in_document(path / file, where, edit, word))


@pytest.mark.parametrize("one", FILES)
@pytest.mark.parametrize("other", FILES)
def test_a_file_stands_in_for_another(sound: Path, work: Path, one: str, other: str) -> None:
    passed = check(sound, work, lambda path: shutil.copy(sound / other, path / one))
    assert passed is (one == other)
