"""Weights in several files: one checkpoint to every reader, also to those of an index."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from smartcash_format.disk.observe import validate
from smartcash_format.disk.read import read_meta
from smartcash_format.disk.strip import strip
from smartcash_format.disk.transfer import transfer
from smartcash_format.errors import InvalidCheckpointError, UnsavableStateError
from smartcash_format.spec import layout, limits
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.shards import MAX_SHARD_BYTES, SMALL_SHARDS
from smartcash_format.store.compare import diff
from smartcash_format.torch_io.collect import collect
from smartcash_format.torch_io.incremental import Increment, Memory
from smartcash_format.torch_io.load import load_checkpoint
from smartcash_format.torch_io.preflight import preflight
from smartcash_format.torch_io.read_state import load_tensors
from smartcash_format.torch_io.save import Prepared, prepare, publish, save, size_bound
from tests.torch_io.saving import facts
from tests.torch_io.written import same_bits
from tests.torch_io.zoo import Small, Training, stepped

pytestmark = pytest.mark.torch

# Two of Small's four tensors of 64 bytes; its bias of 16 goes with the last.
TWO_TENSORS = 128
INDEX = "model.safetensors.index.json"
SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


@pytest.fixture
def training() -> Training:
    return stepped("AdamW")


@pytest.fixture
def path(tmp_path: Path, training: Training) -> Path:
    """A checkpoint of three shards, beside a weight set in one file."""
    made = save(
        tmp_path / "sharded",
        facts(),
        model=training.model,
        optimizer=training.optimizer,
        extra={"ema": nn.Linear(4, 1)},
        max_shard_bytes=TWO_TENSORS,
    )
    return made.path


def read_by_index(path: Path, weight_set: str = "model") -> dict[str, torch.Tensor]:
    """A weight set as a loader reads it that knows safetensors and the index alone."""
    index = json.loads((path / f"{weight_set}.safetensors.index.json").read_text("utf-8"))
    tensors = {}
    for file in sorted(set(index["weight_map"].values())):
        with safe_open(path / file, framework="pt") as shard:
            assert shard.metadata() == {"format": "pt"}
            for name in shard.keys():  # noqa: SIM118 - no mapping
                assert index["weight_map"][name] == file
                tensors[name] = shard.get_tensor(name)
    assert tensors.keys() == index["weight_map"].keys()
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
    return tensors


def test_a_large_weight_set_lies_in_shards_with_an_index_and_a_small_one_in_a_file(
    path: Path, training: Training
) -> None:
    files = {file.name for file in path.iterdir()}
    assert {*SHARDS, INDEX, "ema.safetensors"} < files
    assert not files & {"model.safetensors", "ema.safetensors.index.json"}
    assert validate(path, Depth.CONTENT).problems == ()
    assert {read_meta(path).files[name].role for name in SHARDS} == {"weights"}
    assert read_meta(path).files[INDEX].role == "index"
    found = read_by_index(path)
    assert all(same_bits(found[k], v) for k, v in training.model.state_dict().items())


def test_a_loader_of_hugging_face_reads_it(path: Path, training: Training) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    model = Small()
    hub.load_torch_model(model, path, strict=True, safe=True)
    assert all(same_bits(model.state_dict()[k], v) for k, v in training.model.state_dict().items())


def test_the_same_weights_have_the_same_digest_however_sharded(
    path: Path, tmp_path: Path, training: Training
) -> None:
    plain = save(
        tmp_path / "plain",
        facts(),
        model=training.model,
        optimizer=training.optimizer,
        extra={"ema": nn.Linear(4, 1)},
    )
    sharded = read_meta(path)
    assert (plain.path / "model.safetensors").exists()
    assert plain.meta.weights["model"] == sharded.weights["model"]
    (compared,) = (each for each in diff(plain.path, path).weights if each.name == "model")
    assert (compared.verdict, compared.unchanged) == ("same", 5)


def test_it_is_loaded_in_whole_and_in_parts(path: Path, training: Training) -> None:
    model = Small()
    optimizer = torch.optim.AdamW(model.parameters())
    assert preflight(path, model=model, optimizer=optimizer).fits
    result = load_checkpoint(path, model=model, optimizer=optimizer)
    assert result.restored == ("model", "optimizer", "rng")
    expected = training.model.state_dict()
    assert all(same_bits(model.state_dict()[k], v) for k, v in expected.items())
    part = load_tensors(path, "[bc]")
    assert part.keys() == {"b", "c"}
    assert all(same_bits(part[k], expected[k]) for k in part)


def test_it_is_copied_and_stripped_whole(path: Path, tmp_path: Path) -> None:
    (copied,) = transfer([path], tmp_path / "elsewhere").copied
    assert validate(copied, Depth.CONTENT).problems == ()
    stripped = strip(copied)
    assert validate(stripped.path, Depth.CONTENT).problems == ()
    assert {*SHARDS, INDEX} < {file.name for file in stripped.path.iterdir()}
    read_by_index(stripped.path)


def test_a_shard_that_is_missing_is_named_and_nothing_is_loaded(path: Path) -> None:
    (path / SHARDS[1]).unlink()
    model = Small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InvalidCheckpointError) as caught:
        load_checkpoint(path, model=model)
    assert SHARDS[1] in {problem.where for problem in caught.value.problems}
    assert all(same_bits(before[name], value) for name, value in model.state_dict().items())


def test_the_space_that_is_asked_for_is_enough_for_shards(training: Training, path: Path) -> None:
    live = collect(
        model=training.model,
        optimizer=training.optimizer,
        extra={"ema": nn.Linear(4, 1)},
        max_shard_bytes=TWO_TENSORS,
    )
    taken = sum(file.stat().st_size for file in path.iterdir())
    assert taken <= size_bound(live, facts()) <= taken + 5_000


def test_tied_tensors_are_in_the_index_once(tmp_path: Path) -> None:
    model = nn.Module()
    model.embedding = nn.Embedding(4, 3)
    model.head = nn.Linear(3, 4, bias=False)
    model.head.weight = model.embedding.weight
    model.body = nn.Linear(3, 3)
    made = save(tmp_path / "tied", facts(), model=model, max_shard_bytes=60)
    assert validate(made.path, Depth.CONTENT).problems == ()
    assert read_by_index(made.path).keys() == {"embedding.weight", "body.weight", "body.bias"}
    assert load_tensors(made.path).keys() == model.state_dict().keys()


def test_more_shards_than_a_checkpoint_may_have_are_refused(tmp_path: Path) -> None:
    model = {f"t{number}": torch.zeros(2) for number in range(limits.FILES - 2)}
    with pytest.raises(UnsavableStateError, match="2,001 files") as caught:
        save(tmp_path / "one", facts(), model=model, max_shard_bytes=8)
    assert "max_shard_size" in str(caught.value)
    assert not (tmp_path / "one").exists()


def incremental(path: Path, earlier: Path | None, memory: Memory, model: object) -> Prepared:
    increment = Increment(earlier=earlier, memory=memory, max_shard_bytes=MAX_SHARD_BYTES)
    return prepare(path, facts(), model=model, increment=increment)


@pytest.mark.parametrize("broken", ["gone", "manifest"])
def test_a_checkpoint_that_goes_or_breaks_before_it_is_linked_costs_only_the_links(
    tmp_path: Path, broken: str
) -> None:
    model, memory = {"w": torch.zeros(600, 600)}, Memory()
    first = publish(incremental(tmp_path / "one", None, memory, model))
    second = publish(incremental(tmp_path / "two", first.path, memory, model))
    assert second.linked == ("model.safetensors",)
    memory = Memory()  # a new process
    prepared = incremental(tmp_path / "three", second.path, memory, model)
    if broken == "gone":
        shutil.rmtree(second.path)
    else:
        (second.path / layout.TENSORS).write_bytes(b"{}")
    third = publish(prepared)
    assert third.linked == ()
    (warning,) = third.warnings
    assert warning.startswith("nothing is shared with two")
    assert validate(third.path, Depth.CONTENT).problems == ()
    fourth = publish(incremental(tmp_path / "four", third.path, memory, model))
    assert fourth.linked == ("model.safetensors",)


def test_what_is_linked_is_listed_as_when_it_was_written(tmp_path: Path) -> None:
    values = {"w": torch.tensor([1.0, float("nan"), float("-inf")]), "n": torch.arange(3)}
    memory = Memory()
    first = publish(incremental(tmp_path / "one", None, memory, values))
    second = publish(incremental(tmp_path / "two", first.path, memory, values))
    assert second.linked == ("model.safetensors",)
    written, linked = ((each.path / layout.TENSORS).read_bytes() for each in (first, second))
    # The room for norms that were not known yet is not needed for those that are linked.
    assert written.rstrip() == linked.rstrip()
    assert first.meta.weights == second.meta.weights


def test_a_dtype_or_shape_that_changes_is_a_change_whatever_the_bytes(tmp_path: Path) -> None:
    memory = Memory()
    first = publish(incremental(tmp_path / "one", None, memory, {"w": torch.zeros(4)}))
    for name, value in {
        "shape": torch.zeros(2, 2),
        "dtype": torch.zeros(4, dtype=torch.int32),
    }.items():
        found = publish(incremental(tmp_path / name, first.path, memory, {"w": value}))
        assert found.linked == ()
        assert validate(found.path, Depth.CONTENT).problems == ()


def test_there_is_room_in_meta_json_for_every_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartcash_format.spec.shards.WORTH_A_FILE_BYTES", 1)
    model = {f"t{n:02}": torch.full((3,), float(n)) for n in range(SMALL_SHARDS + 4)}
    memory = Memory()
    path = publish(incremental(tmp_path / "0", None, memory, model)).path
    most = 0
    # Each save one more stands still for good.
    for turn in range(1, len(model)):
        model |= {name: model[name] + 99 for name in sorted(model)[turn:]}
        prepared = incremental(tmp_path / str(turn), path, memory, model)
        found = publish(prepared)
        path = found.path
        most = max(most, len(list(path.glob("*.safetensors"))))
        expected = prepared.collected
        assert len(found.meta.files) <= len(expected.parts) + 1 + expected.spare_files
        assert found.size_bytes <= prepared.size_bytes
        assert validate(path, Depth.CONTENT).problems == ()
    assert SMALL_SHARDS < most <= SMALL_SHARDS + 2
