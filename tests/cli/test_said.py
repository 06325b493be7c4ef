"""What a command says on standard error is said, whatever its answer meets or lacks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.spec import layout
from tests.cli.conftest import Run
from tests.store.checkpoints import write_checkpoint


@pytest.mark.parametrize(
    ("command", "closed"),
    [("show", layout.META), ("tensors", layout.TENSORS), ("diff", layout.TENSORS)],
)
def test_what_may_not_be_read_is_named_with_its_checkpoint(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, closed: str
) -> None:
    path = write_checkpoint(tmp_path, 1)
    opened = os.open

    def refuse(name: str | Path, flags: int, **more: Any) -> int:
        if Path(name).name == closed:
            raise PermissionError(13, "Permission denied", str(name))
        return opened(name, flags, **more)

    monkeypatch.setattr(os, "open", refuse)
    ran = run(command, path, *([path] if command == "diff" else []))
    assert ran.code == 3
    assert ran.err.startswith(f"smartcash-format: {path / closed}: Permission denied; check who")
