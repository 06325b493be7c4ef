"""Clearing what writers left in a root, without taking it from one that is still at work.

A leftover is claimed first, by a rename to a trash name of this process, and emptied only under
that name. A writer that was taken for dead then either has renamed its stage before, and has won,
or finds it gone, and fails before anything is visible. Two that sweep do not meet.

What is protected is never swept: a checkpoint that was in the trash when its pruner was killed,
and that a pin protects, goes back among the checkpoints.
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from smartcash_format.disk.durable import sync_directory
from smartcash_format.disk.leftovers import RENAME_REFUSED, Leftover, discard, leftovers
from smartcash_format.disk.owner import this_process
from smartcash_format.disk.pins import read_pins
from smartcash_format.disk.read import open_checkpoint
from smartcash_format.errors import CheckpointError
from smartcash_format.spec import layout
from smartcash_format.spec.meta import Meta

# How many names are tried for a checkpoint that goes back; more are taken only by a stranger.
_NAMES: Final = 10


def sweep(root: Path, *, now: float | None = None) -> list[Leftover]:
    """Clears what dead writers left in a root; what was cleared.

    `now` is the time by the clock of the mount, which those of unknown writers are aged by; without
    it they are left alone. Raises OSError when the root cannot be listed.
    """
    found = leftovers(root, now=now)
    doomed = [each for each in found if (each.is_garbage if now is not None else each.is_dead)]
    protected = _protected(root) if any(each.kind == "trash" for each in doomed) else frozenset()
    cleared = []
    for leftover in doomed:
        if leftover.kind == "trash" and _comes_back(leftover.path, root, protected):
            continue
        clear(leftover.path)
        cleared.append(leftover)
    return cleared


def clear(leftover: Path) -> int:
    """Deletes a stage or trash directory that may be another process's; the bytes freed.

    What its writer has published by now stays.
    """
    claimed = leftover.with_name(layout.TRASH_PREFIX + this_process().name())
    try:
        os.rename(leftover, claimed)
    except OSError as error:
        if error.errno not in RENAME_REFUSED:
            return 0  # gone, published, or not ours to move
        claimed = leftover  # nor can its writer rename it: it is moved file by file there
    return discard(claimed)


def _protected(root: Path) -> frozenset[str] | None:
    """The ids of what is protected; None where that cannot be told."""
    try:
        return frozenset(read_pins(root, datetime.now(UTC)))
    except OSError:
        return None


def _comes_back(trash: Path, root: Path, protected: frozenset[str] | None) -> bool:
    """Whether a trash directory stays: put back when it is protected, else untouched in doubt."""
    meta = _whole(trash)
    if meta is None:
        return False
    if protected is None:
        return True
    if meta.checkpoint_id not in protected:
        return False
    name = layout.directory_name(epoch=meta.epoch, step=meta.step, checkpoint_id=meta.checkpoint_id)
    for number in range(_NAMES):
        place = root / (name if number == 0 else f"{name}-{number}")
        if os.path.lexists(place):
            continue
        with contextlib.suppress(OSError):
            os.rename(trash, place)
            sync_directory(root)
            break
    return True


def _whole(directory: Path) -> Meta | None:
    """The meta of a directory that still is a checkpoint, with every file in its size."""
    try:
        with open_checkpoint(directory) as opened:
            files = opened.meta.files.items()
            if all(opened.listed_size(name) == record.size_bytes for name, record in files):
                return opened.meta
    except (CheckpointError, OSError):
        return None
    return None
