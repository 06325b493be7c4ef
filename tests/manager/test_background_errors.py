"""A save in the background that fails: said at once, raised by a later call, and no second loss."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from smartcash_format.errors import CheckpointWriteError
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.torch_io import save as saving
from tests.manager.training import Training, manager, said, training

pytestmark = pytest.mark.torch


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes one save of a manager fail in the background, as on a full disk."""

    def failed(
        made: CheckpointManager,
        live: Training,
        error: BaseException = OSError(28, "No space left on device"),  # noqa: B008
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(saving, "write_parts", full)
            made.save_checkpoint(**live.live(), epoch=2, blocking=False)
            made._background.finish()

    return failed


@pytest.mark.parametrize("blocking", [True, False])
def test_the_next_save_is_done_and_then_the_error_is_raised_once(
    tmp_path: Path, fail: Callable[..., None], blocking: bool
) -> None:
    made, _ = manager(tmp_path)
    live = training()
    made.save_checkpoint(**live.live(), epoch=1)
    fail(made, live)
    with pytest.raises(CheckpointWriteError, match="epoch-0002") as caught:
        made.save_checkpoint(**live.live(), epoch=3, blocking=blocking)
    assert caught.value.errno == 28
    (note,) = caught.value.__notes__
    assert "epoch-0003" in note
    assert note.endswith("is saved" if blocking else "is being saved")
    made.close()
    assert [entry.epoch for entry in made.list_checkpoints()] == [3, 1]
    assert not list(tmp_path.glob(".staging-*"))


def test_an_error_is_logged_at_once_also_where_nobody_asks(
    tmp_path: Path, fail: Callable[..., None]
) -> None:
    made, log = manager(tmp_path)
    fail(made, training())
    del made
    gc.collect()
    assert "a save in the background failed: CheckpointWriteError: epoch-0002" in said(log, "error")


def test_a_save_that_fails_too_keeps_the_error_before_it(
    tmp_path: Path, fail: Callable[..., None]
) -> None:
    made, _ = manager(tmp_path)
    live = training()
    fail(made, live)
    with pytest.raises(ValueError, match="epoch"):
        made.save_checkpoint(**live.live(), epoch=-1)
    with pytest.raises(CheckpointWriteError):
        made.wait()


def test_what_acts_raises_it_before_it_touches_anything(
    tmp_path: Path, fail: Callable[..., None]
) -> None:
    made, _ = manager(tmp_path)
    live = training()
    saved = [made.save_checkpoint(**live.live(), epoch=epoch)["path"] for epoch in (1, 2, 3)]
    other = training(seed=9)
    before = other.state()
    calls: list[Callable[[], object]] = [
        lambda: made.load_checkpoint("latest", **other.live()),
        lambda: made.cleanup_checkpoints(1),
        lambda: made.plan_cleanup(1),
        lambda: made.protect(saved[0], "x"),
        lambda: made.reading(saved[0]).__enter__(),
        made.wait,
        made.close,
    ]
    for call in calls:
        fail(made, live)
        with pytest.raises(CheckpointWriteError):
            call()
    assert str(other.state()) == str(before)
    assert all(path.is_dir() for path in saved)
    assert not (tmp_path / ".pins").exists()
    made.close()


def test_what_is_copied_is_copied_first(tmp_path: Path, fail: Callable[..., None]) -> None:
    made, _ = manager(tmp_path / "root")
    live = training()
    saved = made.save_checkpoint(**live.live(), epoch=1)["path"]
    fail(made, live)
    (tmp_path / "drive").mkdir()
    with pytest.raises(CheckpointWriteError) as caught:
        made.copy_to_drive(tmp_path / "drive")
    assert caught.value.__notes__ == [f"an earlier save; 1 copied to {tmp_path / 'drive'}"]
    assert (tmp_path / "drive" / saved.name).is_dir()


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), RuntimeError("broken"), SystemExit(3)])
def test_the_error_of_a_block_is_the_one_seen(
    tmp_path: Path, fail: Callable[..., None], error: BaseException
) -> None:
    made, log = manager(tmp_path)

    def block() -> None:
        with made:
            fail(made, training(), error)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        block()
    assert "a save in the background failed" in said(log, "error")
    with pytest.raises((CheckpointWriteError, RuntimeError, SystemExit)):
        made.close()


class Terminated(Exception):
    """What the handler that was there before raises."""


def test_an_error_before_it_does_not_cost_the_emergency_save(
    tmp_path: Path, fail: Callable[..., None]
) -> None:
    made, log = manager(tmp_path)
    live = training()
    fail(made, live)

    def end(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    guard = made.guard(lambda: {**live.live(), "epoch": 3, "blocking": False})
    try:
        with pytest.raises(Terminated), guard:
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert guard.saved is not None
    assert guard.saved["path"].is_dir()
    assert [entry.epoch for entry in made.list_checkpoints()] == [3]
    assert "a save in the background failed" in said(log, "error")
