"""Where the manager shows a bar: blocking saves, loads, copies; never in the background."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from smartcash_format.manager import checkpoint_manager, loader, saver
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.view.progress import Update

pytestmark = pytest.mark.torch


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[int, int]]]:
    """What every bar was told, by its name up to the first space."""
    seen: dict[str, list[tuple[int, int]]] = {}

    @contextmanager
    def recording(what: str) -> Iterator[Update]:
        told = seen.setdefault(what.partition(" ")[0], [])
        yield lambda done, total: told.append((done, total))

    for module in (checkpoint_manager, loader, saver):
        monkeypatch.setattr(module, "progress_bar", recording)
    return seen


def test_saves_loads_and_copies_tell_their_bar_to_the_end(
    tmp_path: Path, bars: dict[str, list[tuple[int, int]]]
) -> None:
    model = nn.Linear(3, 3)
    manager = CheckpointManager(tmp_path / "root")
    manager.save_checkpoint(model, torch.optim.SGD(model.parameters()), epoch=1)
    manager.load_checkpoint("latest", model=model)
    (tmp_path / "drive").mkdir()
    manager.copy_to_drive(tmp_path / "drive")
    assert list(bars) == ["saving", "loading", "copying"]
    for told in bars.values():
        assert told[-1][0] == told[-1][1] > 0


def test_a_save_in_the_background_has_no_bar(
    tmp_path: Path, bars: dict[str, list[tuple[int, int]]]
) -> None:
    with CheckpointManager(tmp_path / "root") as manager:
        manager.save_checkpoint(nn.Linear(3, 3), epoch=1, blocking=False)
    assert bars == {}
