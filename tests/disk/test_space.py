"""What does not fit is refused before the first byte."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from smartcash_format.disk import publish
from smartcash_format.disk.publish import free_bytes, require_space
from smartcash_format.errors import CheckpointWriteError, InsufficientSpaceError
from smartcash_format.spec import layout
from tests.disk.staging import failing


def test_a_save_that_does_not_fit_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    free = free_bytes(tmp_path)
    assert free is not None
    with pytest.raises(InsufficientSpaceError) as caught:
        require_space(tmp_path / "not" / "yet", free * 2)
    assert caught.value.needed_bytes == free * 2
    assert caught.value.free_bytes <= free * 2
    assert caught.value.errno == errno.ENOSPC
    require_space(tmp_path / "not" / "yet", 1)
    assert os.listdir(tmp_path) == []


def test_what_dead_writers_left_is_cleared_before_a_root_is_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f"{layout.TRASH_PREFIX}old"
    left.mkdir()
    os.utime(left, (1, 1))
    monkeypatch.setattr(publish, "free_bytes", lambda path: 0 if left.exists() else 100)
    require_space(tmp_path, 50)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_clears_by_the_clock_of_the_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f"{layout.STAGING_PREFIX}of-another-machine"
    left.mkdir()
    monkeypatch.setattr("time.time", lambda: left.stat().st_mtime + 8 * 24 * 3600)
    monkeypatch.setattr(publish, "free_bytes", lambda path: 0)
    for number in (0, errno.ENOSPC):  # also where the mount's clock cannot be asked
        if number:
            failing(monkeypatch, "mkdir", number)
        with pytest.raises(InsufficientSpaceError):
            require_space(tmp_path, 50)
        assert left.exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_mount_that_does_not_say_what_is_free_is_not_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing(monkeypatch, "statvfs", number)
    assert free_bytes(tmp_path) is None
    require_space(tmp_path, 1 << 60)


def test_a_place_that_cannot_be_looked_at_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "statvfs", errno.EACCES)
    with pytest.raises(CheckpointWriteError, match="cannot be written into: ") as caught:
        require_space(tmp_path, 1)
    assert caught.value.errno == errno.EACCES
