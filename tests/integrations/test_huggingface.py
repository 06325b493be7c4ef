"""Plain safetensors and Trainer's directories."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from smartcash_format.disk.read import read_meta
from smartcash_format.errors import CheckpointNotFoundError, UnsafeCheckpointError
from smartcash_format.integrations.comparison import same_bits
from smartcash_format.integrations.convert import convert, sources_in
from smartcash_format.torch_io.read_state import load_tensors
from tests.integrations.sources import trained


def test_a_trainers_directory_comes_in_with_its_state(tmp_path: Path) -> None:
    model, optimizer, scheduler = trained()
    source = tmp_path / "checkpoint-40"
    source.mkdir()
    save_file(model.state_dict(), source / "model.safetensors")
    torch.save(optimizer.state_dict(), source / "optimizer.pt")
    torch.save(scheduler.state_dict(), source / "scheduler.pt")
    state = {"global_step": 40, "epoch": 2.0, "log_history": [{"step": 40, "eval_loss": 0.5}]}
    (source / "trainer_state.json").write_text(json.dumps(state))
    os.utime(source / "model.safetensors", (1_600_000_000, 1_600_000_000))
    done = convert(source, tmp_path / "root")
    assert done.path is not None
    meta = read_meta(done.path)
    assert meta.saved_at.timestamp() == 1_600_000_000
    assert (meta.epoch, meta.step, meta.metrics) == (2, 40, {"eval_loss": 0.5})
    assert meta.optimizer is not None
    stored, expected = load_tensors(done.path), model.state_dict()
    assert set(stored) == set(expected)
    assert all(same_bits(stored[name], expected[name]) for name in stored)


def _sharded(source: Path) -> list[str]:
    """Two shards with an index in a directory; their names."""
    source.mkdir()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for index, name in enumerate(names):
        save_file({f"w{index}": torch.full((3,), float(index))}, source / name)
    weight_map = {f"w{index}": name for index, name in enumerate(names)}
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return names


def test_shards_are_one_model_and_a_lost_one_is_named(tmp_path: Path) -> None:
    source = tmp_path / "sharded"
    names = _sharded(source)
    done = convert(source, tmp_path / "root")
    assert done.path is not None
    assert same_bits(load_tensors(done.path)["w1"], torch.ones(3))
    (source / names[1]).unlink()
    with pytest.raises(CheckpointNotFoundError, match="00002-of-00002"):
        convert(source, tmp_path / "root")


def test_a_trainers_directory_may_have_shards(tmp_path: Path) -> None:
    source = tmp_path / "checkpoint-7"
    _sharded(source)
    (source / "trainer_state.json").write_text(
        '{"global_step": 7, "epoch": 0.5, "best_model_checkpoint": "/srv/someone/checkpoint-7", '
        '"log_history": [{"step": 7, "loss": NaN, "note": "not NaN"}]}'
    )
    (source / "training_args.bin").write_bytes(b"never read")
    done = convert(source, tmp_path / "root")
    assert done.path is not None
    meta = read_meta(done.path)
    assert (meta.step, meta.epoch, meta.is_best) == (7, 0, True)
    assert math.isnan(meta.metrics["loss"])
    assert meta.notes["metrics"] == {"note": "not NaN"}
    assert set(load_tensors(done.path)) == {"w0", "w1"}
    assert "training_args.bin: stays where it is" in done.dropped
    known = {field.name: (str(field.known), field.source) for field in done.fields}
    assert known["epoch"] == ("inferred", "trainer_state.json: epoch is 0.5")


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ('{"w0": "../secret"}', "no file beside it"),
        ('{"w0": "model-00002-of-00002.safetensors"}', "has no tensor 'w0'"),
        ('{"w0": "model-00001-of-00002.safetensors", "w0": "x"}', "twice"),
        ("{}", "no weight_map"),
    ],
)
def test_an_index_that_tells_something_else_is_refused(
    tmp_path: Path, weight_map: str, words: str
) -> None:
    source = tmp_path / "sharded"
    _sharded(source)
    index = source / "model.safetensors.index.json"
    index.write_text(f'{{"weight_map": {weight_map}}}')
    with pytest.raises(UnsafeCheckpointError, match=words):
        convert(source, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "sharded"
    names = _sharded(source)
    save_file({"w0": torch.ones(3), "w1": torch.ones(3)}, source / names[1])
    with pytest.raises(UnsafeCheckpointError, match="an earlier shard too"):
        convert(source, tmp_path / "root")


def test_a_document_that_is_not_strict_is_dropped_and_said(tmp_path: Path) -> None:
    source = tmp_path / "checkpoint-9"
    source.mkdir()
    save_file({"w": torch.ones(3)}, source / "model.safetensors")
    (source / "config.json").write_text('{"a": 1, "a": 2}')
    (source / "trainer_state.json").write_text("[" * 100_000)
    done = convert(source, tmp_path / "root")
    assert done.path is not None
    assert read_meta(done.path).config is None
    assert "config.json: has the key 'a' twice" in done.dropped
    assert any(line.startswith("trainer_state.json: nests deeper") for line in done.dropped)
    known = {field.name: str(field.known) for field in done.fields}
    assert (known["config"], known["step"], known["metrics"]) == ("unknown", "inferred", "unknown")


def test_a_single_file_comes_in_with_its_metadata(tmp_path: Path) -> None:
    source = tmp_path / "adapter.safetensors"
    save_file({"w": torch.ones(3)}, source, metadata={"format": "pt", "ss_steps": "1600"})
    done = convert(source, tmp_path / "root")
    assert done.path is not None
    assert (done.kind, done.tensors) == ("a safetensors file", 1)
    assert same_bits(load_tensors(done.path)["w"], torch.ones(3))
    told = read_meta(done.path).notes["adapter.safetensors: metadata"]
    assert told == {"format": "pt", "ss_steps": "1600"}


def test_a_header_that_no_reader_should_take_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "claims.safetensors"
    source.write_bytes((100 << 20).to_bytes(8, "little") + b"{}")
    with pytest.raises(UnsafeCheckpointError, match="gives its header"):
        convert(source, tmp_path / "root")


def test_pickled_weights_of_a_directory_come_in(tmp_path: Path) -> None:
    source = tmp_path / "checkpoint-5"
    source.mkdir()
    model, optimizer, _ = trained()
    torch.save(model.state_dict(), source / "pytorch_model.bin")
    torch.save(optimizer.state_dict(), source / "optimizer.pt")
    assert sources_in([source]) == [source]
    done = convert(source, tmp_path / "root")
    assert done.path is not None
    stored, expected = load_tensors(done.path), model.state_dict()
    assert set(stored) == set(expected)
    assert all(same_bits(stored[name], expected[name]) for name in stored)
    meta = read_meta(done.path)
    assert (meta.step, meta.optimizer is not None) == (5, True)


def test_a_trainer_that_names_no_best_one_says_nothing_of_it(tmp_path: Path) -> None:
    source = tmp_path / "checkpoint-7"
    _sharded(source)
    (source / "trainer_state.json").write_text('{"global_step": 7, "best_model_checkpoint": null}')
    done = convert(source, tmp_path / "root")
    assert {field.name: str(field.known) for field in done.fields}["is_best"] == "unknown"
