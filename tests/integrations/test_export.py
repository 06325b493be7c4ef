"""A checkpoint's weights as one file for programs that know nothing of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from smartcash_format.errors import (
    CheckpointExistsError,
    CheckpointNotFoundError,
    CheckpointWriteError,
    InvalidCheckpointError,
)
from smartcash_format.integrations import export as module
from smartcash_format.integrations.comparison import same
from smartcash_format.integrations.convert import convert
from smartcash_format.integrations.export import Form, export
from smartcash_format.manager.functions import save_checkpoint
from smartcash_format.torch_io.read_state import load_tensors


class _Tied(nn.Module):
    """Two names of one tensor, and a state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)
        self.step = 7

    def get_extra_state(self) -> Any:
        return {"step": self.step}

    def set_extra_state(self, state: Any) -> None:
        self.step = state["step"]


@pytest.fixture(scope="module")
def tied() -> _Tied:
    torch.manual_seed(2)
    return _Tied()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tied: _Tied) -> Path:
    path = tmp_path_factory.mktemp("root") / "one"
    save_checkpoint(path, tied, epoch=1, extra={"ema": nn.Linear(2, 2)})
    return path


def test_safetensors_has_every_name_and_loads_anywhere(
    tmp_path: Path, checkpoint: Path, tied: _Tied
) -> None:
    done = export(checkpoint, tmp_path / "new" / "model.safetensors")
    state = load_file(done.path)
    expected = {k: v for k, v in tied.state_dict().items() if isinstance(v, torch.Tensor)}
    assert same(dict(sorted(expected.items())), dict(sorted(state.items())))
    with safe_open(str(done.path), framework="pt") as weights:
        assert weights.metadata() == {"format": "pt"}
    assert done.size_bytes == done.path.stat().st_size
    assert any("second.weight is tied to first.weight" in note for note in done.notes)
    assert any("_extra_state is no tensor and left out" in note for note in done.notes)
    assert os.listdir(done.path.parent) == ["model.safetensors"]


def test_torch_has_the_state_dict_as_the_module_gave_it(
    tmp_path: Path, checkpoint: Path, tied: _Tied
) -> None:
    done = export(checkpoint, tmp_path / "model.pt", to="torch")
    state = torch.load(done.path, weights_only=True)
    assert state["first.weight"].data_ptr() == state["second.weight"].data_ptr()
    assert state._metadata["norm"]["version"] == 2
    fresh = _Tied()
    fresh.step = 0
    fresh.load_state_dict(state)
    assert same(dict(tied.state_dict()), dict(fresh.state_dict()))
    assert done.notes == ()


@pytest.mark.parametrize("name", ["model.pt", "model.PTH", "pytorch_model.bin"])
def test_a_file_with_the_name_of_a_torch_file_is_one(
    tmp_path: Path, checkpoint: Path, name: str
) -> None:
    file = export(checkpoint, tmp_path / name).path
    assert "first.weight" in torch.load(file, weights_only=True)
    export(checkpoint, file, to="safetensors", overwrite=True)
    assert "first.weight" in load_file(file)


@pytest.mark.parametrize("to", ["safetensors", "torch"])
def test_what_is_exported_converts_back_to_the_same_weights(
    tmp_path: Path, checkpoint: Path, to: Form
) -> None:
    suffix = {"safetensors": ".safetensors", "torch": ".pt"}[to]
    done = export(checkpoint, tmp_path / f"ema{suffix}", to=to, weight_set="ema")
    back = convert(done.path, tmp_path / "root").path
    assert back is not None
    assert same(load_tensors(checkpoint, weight_set="ema"), load_tensors(back))


def test_dtypes_that_torch_keeps_as_bytes_come_back(tmp_path: Path) -> None:
    raw = torch.arange(64, dtype=torch.uint8)
    names = ("float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64")
    state = {f"w.{name}": raw.view(getattr(torch, name)) for name in names}
    saved = tmp_path / "c"
    save_checkpoint(saved, state)
    done = export(saved, tmp_path / "w.pt", to="torch")
    back = convert(done.path, tmp_path / "root").path
    assert back is not None
    assert same(load_tensors(saved), load_tensors(back))


def test_a_file_that_is_there_is_replaced_only_when_asked(tmp_path: Path, checkpoint: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"mine")
    with pytest.raises(CheckpointExistsError, match="exists already"):
        export(checkpoint, file)
    assert file.read_bytes() == b"mine"
    export(checkpoint, file, overwrite=True)
    assert len(load_file(file)) == 9


def test_a_rotten_checkpoint_gives_no_file(tmp_path: Path, checkpoint: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in os.listdir(checkpoint):
        (copy / name).write_bytes((checkpoint / name).read_bytes())
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(InvalidCheckpointError, match="digest-mismatch"):
        export(copy, tmp_path / "out" / "model.pt", to="torch")
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").write_bytes(b"mine")
    with pytest.raises(CheckpointExistsError):  # said before all of it is read
        export(copy, tmp_path / "mine")


@pytest.mark.parametrize("to", ["safetensors", "torch"])
def test_a_full_disk_leaves_nothing_and_the_systems_errno(
    tmp_path: Path, checkpoint: Path, to: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "other").touch()
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CheckpointWriteError) as failed:
        export(checkpoint, tmp_path / "out" / "model", to=to)
    assert failed.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path / "out") == ["other"]


def test_what_torch_makes_of_a_full_disk_is_the_systems_error(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(state: object, stream: object) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            raise RuntimeError("unexpected pos 704 vs 598")

    monkeypatch.setattr(module, "torch_save", refuse)
    with pytest.raises(CheckpointWriteError) as failed:
        export(checkpoint, tmp_path / "out" / "model.pt", to="torch")
    assert failed.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path / "out") == []


def test_a_weight_set_that_is_not_there_is_named_with_those_that_are(
    tmp_path: Path, checkpoint: Path
) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no weight set 'teacher'; it has ema, model"):
        export(checkpoint, tmp_path / "x.pt", weight_set="teacher")
    with pytest.raises(ValueError, match="'onnx' is no form"):
        export(checkpoint, tmp_path / "x.onnx", to="onnx")  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_an_export_over_a_link_goes_where_it_leads_and_over_a_device_nowhere(
    checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "real.safetensors").write_bytes(b"earlier")
    (tmp_path / "link.safetensors").symlink_to("real.safetensors")
    export(checkpoint, tmp_path / "link.safetensors", overwrite=True)
    assert (tmp_path / "link.safetensors").is_symlink()
    assert (tmp_path / "real.safetensors").stat().st_size > 100
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointWriteError, match="not a plain file"):
        export(checkpoint, tmp_path / "pipe", overwrite=True)
    assert (tmp_path / "pipe").is_fifo()
