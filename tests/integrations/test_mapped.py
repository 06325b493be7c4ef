"""Where a source is not mapped: on mounts where a mapping could end the process, or cannot be."""

from __future__ import annotations

import errno
import mmap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from smartcash_format.errors import UnsafeCheckpointError
from smartcash_format.integrations import mapped
from smartcash_format.integrations.convert import convert
from smartcash_format.integrations.mapped import RESTED_BYTES, MappedFile, Resting
from smartcash_format.torch_io.read_state import load_tensors
from tests.torch_io.same import assert_same

STATE = {"w": torch.arange(12.0).reshape(3, 4), "odd": torch.tensor([1, 2, 3], dtype=torch.uint8)}


def source(directory: Path, suffix: str) -> Path:
    path = directory / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=suffix == ".pt")
    return path


class Refusing(mmap.mmap):
    """What a mount that cannot map makes of it."""

    def __new__(cls, *args: object, **options: object) -> Any:
        raise OSError(errno.ENODEV, "No such device")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("reason", ["a network mount", "a mount that cannot map"])
def test_a_source_that_is_not_mapped_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, reason: str
) -> None:
    path = source(tmp_path, suffix)
    before = path.read_bytes()
    if reason == "a network mount":
        monkeypatch.setattr(mapped, "file_system", lambda device: "fuse.drive")
    monkeypatch.setattr(mmap, "mmap", Refusing)
    done = convert(path, tmp_path / "root")
    assert done.path is not None
    assert_same(load_tensors(done.path), STATE)
    assert path.read_bytes() == before


def test_a_source_that_becomes_shorter_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source(tmp_path, ".safetensors")
    monkeypatch.setattr(mapped, "file_system", lambda device: "nfs4")
    real = bytearray

    def cut(size_bytes: int) -> bytearray:
        path.write_bytes(path.read_bytes()[:-1])
        return real(size_bytes)

    monkeypatch.setattr(mapped, "bytearray", cut, raising=False)
    with path.open("rb") as stream, pytest.raises(UnsafeCheckpointError, match="became shorter"):
        MappedFile(path, stream)


def test_memory_is_given_back_when_so_much_was_written(tmp_path: Path) -> None:
    path = source(tmp_path, ".safetensors")
    with path.open("rb") as stream:
        mapped = Rested(path, stream)
    resting = Resting([mapped])
    resting.done(RESTED_BYTES - 1)
    assert mapped.rests == 0
    resting.done(1)
    assert mapped.rests == 1
    resting.done(RESTED_BYTES - 1)
    assert mapped.rests == 1
    resting.rest()
    resting.done(RESTED_BYTES - 1)
    assert mapped.rests == 2
    before = path.read_bytes()
    assert bytes(mapped.numbers(0, len(before), 1).tolist()) == before


class Rested(MappedFile):
    """Counts how often its memory was given back."""

    rests = 0

    def rest(self) -> None:
        self.rests += 1
        super().rest()
