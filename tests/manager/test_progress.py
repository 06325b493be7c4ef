"""What shows a bar: all that takes its time, with a manager or without; not the background."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from smartcash_format import (
    Depth,
    convert,
    export,
    load_checkpoint,
    receive,
    save_checkpoint,
    share,
    transfer,
    validate,
)
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.spec import watching
from smartcash_format.spec.watching import Progress
from smartcash_format.testing import storage_test

pytestmark = pytest.mark.torch


Bars = list[tuple[str, list[tuple[int, int]]]]


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> Bars:
    """What every bar of bytes was told, by its name up to the first space, in their order."""
    seen: Bars = []

    @contextmanager
    def recording(what: str, unit: str) -> Iterator[Progress | None]:
        if threading.current_thread() is not threading.main_thread() or unit != watching.BYTES:
            yield None
            return
        told: list[tuple[int, int]] = []
        seen.append((what.partition(" ")[0], told))
        yield lambda done, total: told.append((done, total))

    monkeypatch.setattr(watching, "_shown_by", [recording])
    return seen


def names(bars: Bars) -> list[str]:
    """The names of those that were told something large enough to be seen."""
    return [name for name, told in bars if not told or told[-1][1] > 5_000]


def test_saves_loads_and_copies_tell_their_bar_to_the_end(tmp_path: Path, bars: Bars) -> None:
    model = nn.Linear(50, 50)
    manager = CheckpointManager(tmp_path / "root")
    manager.save_checkpoint(model, torch.optim.SGD(model.parameters()), epoch=1)
    manager.load_checkpoint("latest", model=model)
    (tmp_path / "drive").mkdir()
    manager.copy_to_drive(tmp_path / "drive")
    assert names(bars) == ["writing", "reading", "copying"]
    for _, told in bars:
        assert told[-1][0] == told[-1][1] > 0


def test_a_save_in_the_background_has_no_bar(tmp_path: Path, bars: Bars) -> None:
    with CheckpointManager(tmp_path / "root") as manager:
        manager.save_checkpoint(nn.Linear(3, 3), epoch=1, blocking=False)
    assert bars == []


def test_what_needs_no_manager_has_a_bar_too(tmp_path: Path, bars: Bars) -> None:
    model = nn.Linear(50, 50)
    save_checkpoint(tmp_path / "one", model)
    assert names(bars) == ["writing"]
    bars.clear()
    load_checkpoint(tmp_path / "one", model=model)
    assert names(bars) == ["reading"]
    bars.clear()
    validate(tmp_path / "one", Depth.CONTENT)
    assert names(bars) == ["validating"]
    bars.clear()
    validate(tmp_path / "one", Depth.STRUCTURE)
    assert names(bars) == []
    (tmp_path / "root").mkdir()
    transfer([tmp_path / "one"], tmp_path / "root")
    assert names(bars) == ["copying"]
    bars.clear()
    export(tmp_path / "one", tmp_path / "one.safetensors")
    assert names(bars) == ["reading", "writing"]
    bars.clear()
    share(tmp_path / "one", tmp_path / "shared")
    assert names(bars) == ["copying", "validating"]
    bars.clear()
    receive(tmp_path / "shared", tmp_path / "received")
    assert names(bars) == ["copying", "validating"]
    bars.clear()
    convert(tmp_path / "one.safetensors", tmp_path / "converted")
    assert names(bars) == ["reading", "writing", "validating", "comparing"]
    bars.clear()
    storage_test(tmp_path)
    assert names(bars)[0] == "trying"
