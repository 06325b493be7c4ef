"""A root that cannot be written is read as ever, and a save into it is an error with its errno."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.errors import CheckpointWriteError
from tests.manager.training import manager, said, training

pytestmark = pytest.mark.torch


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that is mounted read-only, for every user: what would write is EROFS."""
    opened = os.open
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def refuse(path: Any, *args: object, **kwargs: object) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    def open_to_read(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        return refuse(path) if flags & writing else opened(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_to_read)
    for call in ("mkdir", "rename", "replace", "unlink", "rmdir", "link"):
        monkeypatch.setattr(os, call, refuse)


def test_a_root_that_cannot_be_written_is_listed_validated_and_loaded(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    made, log = manager(tmp_path)
    live = training()
    path = made.save_checkpoint(**live.live(), epoch=1)["path"]
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    request.getfixturevalue("read_only")
    assert len(made.list_checkpoints()) == 1
    assert made.validate_checkpoint(path)[0]
    assert made.get_training_history()["total_runs"] == 1
    assert said(log, "warning") == ""
    assert made.load_checkpoint(**live.live())["epoch"] == 1
    assert "training_history.yaml" in said(log, "warning")
    with pytest.raises(CheckpointWriteError, match="Read-only file system") as caught:
        made.save_checkpoint(live.model, epoch=2)
    assert caught.value.errno == errno.EROFS
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_root_without_permission_is_a_write_error_with_its_errno(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    live = training()
    made.save_checkpoint(live.model, epoch=1)
    os.chmod(tmp_path, 0o555)
    try:
        with pytest.raises(CheckpointWriteError) as caught:
            made.save_checkpoint(live.model, epoch=2)
    finally:
        os.chmod(tmp_path, 0o755)
    assert caught.value.errno == errno.EACCES
    assert len(made.list_checkpoints()) == 1


def test_a_root_that_is_a_file_is_a_write_error_and_the_file_stays(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("mine")
    made, _ = manager(tmp_path / "root")
    with pytest.raises(CheckpointWriteError) as caught:
        made.save_checkpoint(training().model, epoch=1)
    assert caught.value.errno is not None
    assert (tmp_path / "root").read_text() == "mine"
