"""A save in the background that fails: said at once, raised by a later call, and no second loss."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from smartcash_format.errors import CheckpointWriteError
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.torch_io import save as saving
from tests.manager.training import Training, manager, said, training
from tests.smartcash_logger import SmartCashLogger

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


def entered(made: CheckpointManager) -> None:
    with made:
        pass


# What a call does of its own is done first, or not at all.
RAISES: dict[str, Callable[[CheckpointManager, Path, Training], object]] = {
    "load_checkpoint": lambda made, path, live: made.load_checkpoint(path, **live.live()),
    "cleanup_checkpoints": lambda made, path, live: made.cleanup_checkpoints(1),
    "plan_cleanup": lambda made, path, live: made.plan_cleanup(1),
    "protect": lambda made, path, live: made.protect(path, "x"),
    "unprotect": lambda made, path, live: made.unprotect(path),
    "reading": lambda made, path, live: made.reading(path).__enter__(),
    "wait": lambda made, path, live: made.wait(),
    "close": lambda made, path, live: made.close(),
    "__exit__": lambda made, path, live: entered(made),
}
AFTER_ITS_OWN_WORK = {"save_checkpoint", "copy_to_drive"}
# Shows what is published, and neither waits nor changes anything.
LOOKS: dict[str, Callable[[CheckpointManager, Path], object]] = {
    "output_dir": lambda made, path: made.output_dir,
    "list_checkpoints": lambda made, path: made.list_checkpoints(),
    "filter_checkpoints": lambda made, path: made.filter_checkpoints(min_epoch=1),
    "find_best_checkpoint": lambda made, path: made.find_best_checkpoint(),
    "find_latest_checkpoint": lambda made, path: made.find_latest_checkpoint(),
    "find_checkpoint_by_epoch": lambda made, path: made.find_checkpoint_by_epoch(1),
    "display_checkpoints": lambda made, path: made.display_checkpoints(),
    "validate_checkpoint": lambda made, path: made.validate_checkpoint(path),
    "report": lambda made, path: made.report(path.parent.parent / "report.html"),
    "get_training_history": lambda made, path: made.get_training_history(),
    "training_rows": lambda made, path: made.training_rows(),
    "export_history_to_json": lambda made, path: made.export_history_to_json(
        path.parent.parent / "history.json"
    ),
    # What it makes saves last, and nothing may cost that save.
    "guard": lambda made, path: made.guard(dict),
}


def test_every_call_raises_it_or_looks_only() -> None:
    public = {name for name in dir(CheckpointManager) if not name.startswith("_")}
    assert public == {*RAISES, *AFTER_ITS_OWN_WORK, *LOOKS} - {"__exit__"}


@pytest.mark.parametrize("name", RAISES)
def test_what_acts_raises_it_before_it_touches_anything(
    tmp_path: Path, fail: Callable[..., None], name: str
) -> None:
    made, _ = manager(tmp_path / "root")
    live = training()
    saved = [made.save_checkpoint(**live.live(), epoch=epoch)["path"] for epoch in (1, 2, 3)]
    made.protect(saved[1], "stays so")
    other = training(seed=9)
    live_before = str(other.state())
    before = sorted(map(str, made.output_dir.rglob("*")))
    fail(made, live)
    path = saved[1] if name == "unprotect" else saved[0]
    with pytest.raises(CheckpointWriteError, match="epoch-0002"):
        RAISES[name](made, path, other)
    assert str(other.state()) == live_before
    assert sorted(map(str, made.output_dir.rglob("*"))) == before
    made.close()


@pytest.mark.parametrize("name", LOOKS)
def test_what_looks_leaves_it_to_the_next_call_that_acts(
    tmp_path: Path, fail: Callable[..., None], name: str
) -> None:
    made, _ = manager(tmp_path / "root")
    live = training()
    path = made.save_checkpoint(**live.live(), epoch=1)["path"]
    fail(made, live)
    LOOKS[name](made, path)
    with pytest.raises(CheckpointWriteError, match="epoch-0002"):
        made.close()
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


def test_a_logger_that_saves_in_the_background_cannot_hang_it(tmp_path: Path) -> None:
    class Saving(SmartCashLogger):
        def info(self, msg: str) -> None:
            released.wait(timeout=30)
            try:
                made.save_checkpoint(**live.live(), epoch=2)
            except RuntimeError as error:
                raised.append(str(error))

    live, raised, released = training(), list[str](), threading.Event()
    made = CheckpointManager(tmp_path, Saving("test"))
    made.save_checkpoint(**live.live(), epoch=1, blocking=False)
    closing = threading.Thread(target=made.close, daemon=True)
    closing.start()  # holds what a save needs, and waits for the one in the background
    while not closing_waits(made):
        time.sleep(0.001)
    released.set()
    closing.join(timeout=30)
    assert not closing.is_alive()
    assert raised == ["a logger or a policy that a save in the background calls saves too"]
    assert [entry.epoch for entry in made.list_checkpoints()] == [1]


def closing_waits(made: CheckpointManager) -> bool:
    if made._saving.acquire(blocking=False):
        made._saving.release()
        return False
    return True
