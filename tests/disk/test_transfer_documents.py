"""What a copy is called, and that its documents are read back like every other file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import transfer as module
from smartcash_format.disk.transfer import transfer
from smartcash_format.errors import CheckpointWriteError
from smartcash_format.spec import layout
from smartcash_format.testing.sample import write_sample


@pytest.mark.parametrize("rotten", [layout.META, layout.TENSORS, "model.safetensors"])
def test_what_the_storage_changes_while_it_is_written_is_not_published(
    rotten: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_sample(tmp_path / "runs", epoch=1)
    honest = module._write

    def write(staged: Any, name: str, *how: Any) -> None:
        honest(staged, name, *how)
        if name == rotten:
            data = bytearray((staged.path / name).read_bytes())
            data[-1] ^= 1
            (staged.path / name).write_bytes(data)

    monkeypatch.setattr(module, "_write", write)
    with pytest.raises(CheckpointWriteError, match=f"{rotten} reads back other bytes") as caught:
        transfer([source], tmp_path / "copies")
    assert caught.value.errno == errno.EIO
    assert os.listdir(tmp_path / "copies") == []


@pytest.mark.parametrize("name", [".trash-of-somebody", ".kept", layout.PINS])
def test_a_copy_of_what_is_hidden_is_not_hidden(name: str, tmp_path: Path) -> None:
    source = write_sample(tmp_path / "runs", epoch=1)
    plain = source.name
    hidden = source.rename(tmp_path / "runs" / name)
    (copy,) = transfer([hidden], tmp_path / "copies").copied
    assert copy == tmp_path / "copies" / plain
    (skipped,) = transfer([hidden], tmp_path / "copies").skipped
    assert skipped.kind == "identical"
