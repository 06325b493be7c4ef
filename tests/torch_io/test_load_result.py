"""What the result of a load says, and that it reads states and tensors when they are asked for."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
import torch

from smartcash_format.errors import CheckpointNotFoundError, InvalidCheckpointError
from smartcash_format.torch_io.load import load_checkpoint
from smartcash_format.torch_io.read_state import load_tensors
from smartcash_format.torch_io.result import LoadResult
from tests.torch_io import handmade
from tests.torch_io.handmade import saved_model, saved_training
from tests.torch_io.same import assert_same
from tests.torch_io.zoo import stepped


def test_the_result_says_what_the_checkpoint_says(tmp_path: Path) -> None:
    path = saved_model(
        tmp_path,
        {"w": torch.zeros(1)},
        epoch=7,
        step=70,
        metrics={"loss": 0.5},
        config={"lr": 1},
    )
    result = load_checkpoint(path)
    assert result.found
    assert (result["epoch"], result["step"], result["metrics"]) == (7, 70, {"loss": 0.5})
    assert result["config"] == {"lr": 1}
    assert isinstance(result["timestamp"], datetime)
    assert result["timestamp"].tzinfo is not None
    assert result["loaded_from"] == path
    assert result.get("epoch", 0) == 7
    assert "{'epoch': 7, 'step': 70, " in repr(result)
    assert "optimizer_state_dict" not in result
    with pytest.raises(KeyError):
        result["optimizer_state_dict"]


def test_states_are_read_only_when_they_are_asked_for(tmp_path: Path) -> None:
    saved = stepped("Adam")
    path = saved_training(tmp_path, saved)
    result = load_checkpoint(path)
    assert len(result) == 8
    assert "model_state_dict" in result
    assert list(result)[-2:] == ["model_state_dict", "optimizer_state_dict"]
    assert_same(result["optimizer_state_dict"], saved.optimizer.state_dict())
    damaged = bytearray((path / "optimizer.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (path / "optimizer.pt").write_bytes(damaged)
    assert repr(result)
    assert result == result
    with pytest.raises(InvalidCheckpointError, match="digest-mismatch"):
        result["optimizer_state_dict"]


def test_a_state_of_another_checkpoint_at_the_same_path_is_not_given_out(tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"w": torch.zeros(1)})
    result = load_checkpoint(path)
    handmade.reseal(path, epoch=99)
    with pytest.raises(CheckpointNotFoundError, match="another checkpoint"):
        result["model_state_dict"]


def test_an_empty_result_serves_a_fresh_run() -> None:
    nothing = LoadResult()
    assert not nothing.found
    assert nothing.get("epoch", 0) == 0
    assert dict(nothing) == {}
    assert nothing.restored == ()
    assert repr(nothing) == "LoadResult(found=False)"


def test_tensors_are_read_by_a_pattern_with_their_own_digests(tmp_path: Path) -> None:
    tensors = {"head.w": torch.arange(4.0), "head.b": torch.ones(2), "body.w": torch.zeros(3)}
    path = saved_model(tmp_path, tensors)
    found = load_tensors(path, "head.*")
    assert_same(found, {name: tensors[name] for name in ("head.b", "head.w")})
    file = path / "model.safetensors"
    data = bytearray(file.read_bytes())
    place = bytes(data).index(tensors["head.w"].numpy().tobytes())
    data[place] ^= 1
    file.write_bytes(data)
    assert_same(load_tensors(path, "body.w"), {"body.w": tensors["body.w"]})
    with pytest.raises(InvalidCheckpointError, match=r"head\.w"):
        load_tensors(path, "head.w")
    assert load_tensors(path, "head.w", verify=False).keys() == {"head.w"}
    assert load_tensors(path, "nothing") == {}
    assert load_tensors(path, weight_set="ema") == {}
