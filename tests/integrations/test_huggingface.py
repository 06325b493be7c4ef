"""Plain safetensors and Trainer's directories."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from smartcash_format.disk.read import read_meta
from smartcash_format.errors import CheckpointNotFoundError
from smartcash_format.integrations.comparison import same_bits
from smartcash_format.integrations.convert import convert
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


def test_shards_are_one_model_and_a_lost_one_is_named(tmp_path: Path) -> None:
    source = tmp_path / "sharded"
    source.mkdir()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for index, name in enumerate(names):
        save_file({f"w{index}": torch.full((3,), float(index))}, source / name)
    weight_map = {f"w{index}": name for index, name in enumerate(names)}
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    done = convert(source, tmp_path / "root")
    assert done.path is not None
    assert same_bits(load_tensors(done.path)["w1"], torch.ones(3))
    (source / names[1]).unlink()
    with pytest.raises(CheckpointNotFoundError, match="00002-of-00002"):
        convert(source, tmp_path / "root")
