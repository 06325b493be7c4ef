"""A root that vanishes in the middle of an operation, as a mount that is taken away."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk.observe import validate
from smartcash_format.errors import CheckpointError
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.spec.problems import Depth
from tests.manager.training import manager, training


@dataclass(slots=True)
class Vanishing:
    """While it is entered, a directory goes at the nth call of `os` that has it in its path."""

    root: Path
    calls: int
    gone: bool = False
    seen: int = 0
    real: dict[str, Any] = field(default_factory=dict)

    @property
    def aside(self) -> Path:
        return self.root.with_name("unmounted")


CALLS = ("open", "rename", "replace", "mkdir", "unlink", "scandir", "listdir", "stat", "lstat")


@contextmanager
def vanishing(root: Path, calls: int) -> Iterator[Vanishing]:
    state = Vanishing(root, calls)

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            if not isinstance(path, int) and os.fspath(path).startswith(str(root)):
                state.seen += 1
                if state.seen == state.calls:
                    state.real["rename"](root, state.aside)
                    state.gone = True
            return real(path, *args, **options)

        return call

    for name in CALLS:
        state.real[name] = getattr(os, name)
        setattr(os, name, wrapped(name, state.real[name]))
    try:
        yield state
    finally:
        for name, real in state.real.items():
            setattr(os, name, real)


def filled(root: Path) -> CheckpointManager:
    keeper, _ = manager(root)
    for epoch in (1, 2, 3):
        keeper.save_checkpoint(**training().live(), epoch=epoch)
    return keeper


def in_the_background(keeper: CheckpointManager) -> None:
    keeper.save_checkpoint(**training().live(), epoch=9, blocking=False)
    keeper.wait()


def guarded(keeper: CheckpointManager) -> None:
    state = lambda: {**training().live(), "epoch": 9}  # noqa: E731
    with suppress(KeyboardInterrupt), keeper.guard(state) as guard:
        os.kill(os.getpid(), signal.SIGINT)
        guard.step()


def read(keeper: CheckpointManager) -> None:
    with keeper.reading(keeper.list_checkpoints()[0].path) as path:
        os.listdir(path)


OPERATIONS: dict[str, Callable[[CheckpointManager, Path], object]] = {
    "save": lambda keeper, aside: keeper.save_checkpoint(**training().live(), epoch=9),
    "background": lambda keeper, aside: in_the_background(keeper),
    "guard": lambda keeper, aside: guarded(keeper),
    "cleanup": lambda keeper, aside: keeper.cleanup_checkpoints(keep_best=False, max_epochs=1),
    "load": lambda keeper, aside: keeper.load_checkpoint("latest", **training().live()),
    "list": lambda keeper, aside: [entry.epoch for entry in keeper.list_checkpoints()],
    "protect": lambda keeper, aside: keeper.protect(keeper.list_checkpoints()[0].path, "why"),
    "reading": lambda keeper, aside: read(keeper),
    "copy": lambda keeper, aside: keeper.copy_to_drive(aside),
}


def whole(root: Path) -> set[int]:
    """The epochs that stand in a root; each is whole, and nothing but checkpoints is visible."""
    listing = manager(root)[0].list_checkpoints()
    assert listing.broken == ()
    assert all(validate(entry.path, Depth.CONTENT).valid for entry in listing)
    return {entry.epoch for entry in listing}


def disturbed(
    keeper: CheckpointManager, operation: str, vanishes: Path, aside: Path, calls: int
) -> bool:
    """Whether the root was gone before the operation ended; it is back after it."""
    with vanishing(vanishes, calls) as state:
        try:
            OPERATIONS[operation](keeper, aside)
        except (CheckpointError, OSError, IndexError):
            pass  # an error of our tree or of the system; the first of no checkpoints at all
    if state.gone:
        # What it made in the place of the root meanwhile is as good a root as any.
        if vanishes.exists():
            whole(vanishes)
            os.rename(vanishes, vanishes.with_name(f"new-{calls}"))
        os.rename(state.aside, vanishes)
    return state.gone


@pytest.mark.no_cover
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_root_that_vanishes_in_an_operation_loses_nothing(tmp_path: Path, operation: str) -> None:
    root = tmp_path / "root"
    keeper = filled(root)
    stands = {1, 2, 3} if operation != "cleanup" else {3}
    calls, struck = 1, 0
    while disturbed(keeper, operation, root, tmp_path / "aside", calls):
        struck += 1
        assert whole(root) >= stands
        calls *= 2
    assert struck >= 2
    keeper.save_checkpoint(**training().live(), epoch=10)
    assert whole(root) >= stands | {10}


def test_a_target_that_vanishes_in_a_copy_keeps_what_had_arrived(tmp_path: Path) -> None:
    keeper, target = filled(tmp_path / "root"), tmp_path / "target"
    target.mkdir()
    calls = 1
    while disturbed(keeper, "copy", target, target, calls):
        whole(target)
        calls *= 2
    assert calls > 10
    keeper.copy_to_drive(target)
    assert whole(target) == whole(tmp_path / "root") == {1, 2, 3}
