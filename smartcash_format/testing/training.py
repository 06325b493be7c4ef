"""The same matrix through CheckpointManager and torch: what a training loop does to a root."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from smartcash_format.errors import CheckpointError
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.store.retention import KeepLast
from smartcash_format.testing.promise import Operation, Tell

if TYPE_CHECKING:
    import torch

EARLIER: Final = (1, 2, 3)
NEXT: Final = 99
# Bytes: the small model lies in several files, of which one changes and the others are linked.
SHARD: Final = 40


def operations() -> tuple[Operation, ...]:
    """Saves, cleanups, a resume and copies by a manager, also of roots saved incrementally."""
    return (
        _operation("manager: save", _save),
        _operation("manager: save in the background", _save_in_background),
        _operation("manager: save, then cleanup", _save_and_clean, removes=(0,), saves=1),
        _operation("manager: save with keep=", _save_and_keep, removes=(0, 1), saves=1),
        _operation("manager: incremental save", _save_changed, save=_save_incrementally),
        _operation("manager: cleanup", _clean, removes=(0, 1)),
        _operation(
            "manager: cleanup of an incremental root",
            _clean,
            save=_save_incrementally,
            removes=(0, 1),
        ),
        _operation("manager: resume", _resume),
        _operation("manager: copy", _copy),
    )


def _operation(
    name: str,
    run: Callable[[Path, Tell], None],
    *,
    save: Callable[[Path, int], Path] | None = None,
    removes: Iterable[int] = (),
    saves: int = 0,
) -> Operation:
    save = save or _save_epoch
    return Operation(
        name=name,
        run=run,
        prepare=lambda root: [save(root, epoch) for epoch in EARLIER],
        save_next=lambda root: save(root, NEXT),
        removes=frozenset(removes),
        saves=saves,
    )


def _manager(root: Path) -> CheckpointManager:
    return CheckpointManager(root, _quiet(), monitor="val_loss", mode="min")


def _quiet() -> logging.Logger:
    quiet = logging.Logger("fault injection")  # without a handler: what goes wrong is expected
    quiet.addHandler(logging.NullHandler())
    return quiet


def _live() -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)  # each run is forked, which the threads of a pool do not survive
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    return {"model": model, "optimizer": optimizer}


def _save_epoch(root: Path, epoch: int) -> Path:
    path = _manager(root).save_checkpoint(
        **_live(), config={"model": {"backbone": "sample"}}, epoch=epoch, metrics={"val_loss": 1.0}
    )["path"]
    assert isinstance(path, Path)
    return path


def _save(root: Path, tell: Tell) -> None:
    tell("saved", _save_epoch(root, 4))


def _save_in_background(root: Path, tell: Tell) -> None:
    manager = _manager(root)
    manager.save_checkpoint(**_live(), epoch=4, metrics={"val_loss": 1.0}, blocking=False)
    saved = manager.wait()
    assert saved is not None
    tell("saved", saved["path"])


def _save_incrementally(root: Path, epoch: int) -> Path:
    """Saves a model of which the last layer is another in each epoch."""
    live = _live()
    live["model"][1].running_mean.fill_(epoch)
    manager = CheckpointManager(root, _quiet(), incremental=True, max_shard_size=SHARD)
    path = manager.save_checkpoint(**live, epoch=epoch)["path"]
    assert isinstance(path, Path)
    return path


def _save_changed(root: Path, tell: Tell) -> None:
    tell("saved", _save_incrementally(root, 4))


def save_and_keep(root: Path, *, epoch: int, kept: int) -> tuple[Path, tuple[Path, ...]]:
    """Saves incrementally with `keep=`; the path, and what was removed for it."""
    manager = CheckpointManager(root, _quiet(), keep=KeepLast(kept), incremental=True)
    result = manager.save_checkpoint(**_live(), epoch=epoch)
    assert result["path"] is not None
    return result["path"], result["removed"]


def _save_and_keep(root: Path, tell: Tell) -> None:
    tell("saved", save_and_keep(root, epoch=4, kept=2)[0])


def _save_and_clean(root: Path, tell: Tell) -> None:
    _save(root, tell)
    _manager(root).cleanup_checkpoints(keep_best=False, max_checkpoints=0, max_epochs=3)


def _clean(root: Path, tell: Tell) -> None:
    _manager(root).cleanup_checkpoints(keep_best=False, max_checkpoints=0, max_epochs=1)


def _resume(root: Path, tell: Tell) -> None:
    loaded = _manager(root).load_checkpoint("latest", **_live())
    if loaded["epoch"] != EARLIER[-1]:
        raise CheckpointError("the newest was not the one that was loaded")


def _copy(root: Path, tell: Tell) -> None:
    # Made once, beside the root: what lies elsewhere a killed process would leave there.
    elsewhere = _manager(root.with_name("elsewhere"))
    if not elsewhere.output_dir.exists():
        for epoch in (5, 6):
            elsewhere.save_checkpoint(**_live(), epoch=epoch)
    for path in elsewhere.copy_to_drive(root):
        tell("saved", path)
