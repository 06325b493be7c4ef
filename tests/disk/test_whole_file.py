"""A single file is there whole or not at all, and what a killed writer left goes with the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from smartcash_format.disk import whole_file as module
from smartcash_format.disk.leftovers import leftovers
from smartcash_format.disk.whole_file import whole_file
from tests.processes import CHECKOUT

_KILLED = """
import os, signal, sys
from pathlib import Path
from smartcash_format.disk.whole_file import whole_file

with whole_file(Path(sys.argv[1])) as stream:
    stream.write(b"x" * 1000)
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_cleared_by_the_next_in_that_directory(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "model.pt")]
    assert subprocess.run(command, cwd=CHECKOUT, check=False).returncode == -signal.SIGKILL
    (left,) = leftovers(tmp_path)
    assert (left.is_dead, left.size_bytes) == (True, 1000)
    with whole_file(tmp_path / "model.pt") as stream:
        assert len(leftovers(tmp_path)) == 1  # its own
        stream.write(b"whole")
    assert os.listdir(tmp_path) == ["model.pt"]


def test_the_name_is_durable_once_the_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[Path, bool]] = []
    file = tmp_path / "model.pt"
    monkeypatch.setattr(module, "sync_directory", lambda path: synced.append((path, file.exists())))
    with whole_file(file) as stream:
        stream.write(b"whole")
    assert synced == [(tmp_path, True)]
