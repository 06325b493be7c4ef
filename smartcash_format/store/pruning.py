"""Carries a plan out: removes and strips, and says what was done and what was not.

What is no longer as the plan saw it stays, and so does what was protected since, also while it was
being removed. What one entry meets costs no other; what was done is always noted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from smartcash_format.disk import pins
from smartcash_format.disk.publish import remove
from smartcash_format.disk.strip import strip
from smartcash_format.errors import CheckpointError, CheckpointNotFoundError
from smartcash_format.store.catalog import read_entry
from smartcash_format.store.entry import Entry
from smartcash_format.store.retention import Plan

Clock = Callable[[], datetime]
# Writes into the history of a root that these are gone or were replaced; what was not as usual.
Note = Callable[[Path, Sequence[Entry]], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was done of a plan: the paths removed, oldest first, and what could not be done.

    `stripped` are the paths that stand where a checkpoint with its resume state stood.
    """

    paths: tuple[Path, ...] = ()
    stripped: tuple[Path, ...] = ()
    freed_bytes: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Done:
    entry: Entry
    path: Path
    freed_bytes: int


def apply(plan: Plan, *, clock: Clock, note: Note) -> Applied:
    """Removes what the plan dooms, oldest first, then strips."""
    removed: list[_Done] = []
    stripped: list[_Done] = []
    warnings: list[str] = []
    try:
        _each(plan.doomed, _remove, clock, removed, warnings)
        _each(plan.stripped, _strip, clock, stripped, warnings)
    finally:
        done = [one.entry for one in (*removed, *stripped)]
        for root in dict.fromkeys(entry.parent for entry in done):
            here = [entry for entry in done if entry.parent == root]
            warnings += note(Path(root), here)
    return Applied(
        paths=tuple(one.path for one in removed),
        stripped=tuple(one.path for one in stripped),
        freed_bytes=sum(one.freed_bytes for one in (*removed, *stripped)),
        warnings=tuple(warnings),
    )


def _each(
    entries: Iterable[Entry],
    act: Callable[[Entry, Callable[[str], bool]], _Done],
    clock: Clock,
    done: list[_Done],
    warnings: list[str],
) -> None:
    for entry in entries:
        root = Path(os.path.realpath(entry.parent))

        def is_protected(checkpoint_id: str, root: Path = root) -> bool:
            return checkpoint_id in pins.read_pins(root, clock())

        try:
            found = read_entry(entry)
            if found is None:
                continue
            if found != entry or is_protected(entry.checkpoint_id):
                warnings.append(f"{entry.name} stays: it was changed or protected since the plan")
                continue
            done.append(act(entry, is_protected))
        except CheckpointNotFoundError:
            continue  # another process was faster
        except CheckpointError as error:
            warnings.append(str(error))
        except OSError as error:
            warnings.append(f"{entry.name} stays: {error.strerror or error}")


def _remove(entry: Entry, is_protected: Callable[[str], bool]) -> _Done:
    freed_bytes = remove(entry.path, unless=lambda: is_protected(entry.checkpoint_id))
    return _Done(entry, entry.path, freed_bytes)


def _strip(entry: Entry, is_protected: Callable[[str], bool]) -> _Done:
    stripped = strip(entry.path, unless=is_protected)
    return _Done(entry, stripped.path, stripped.freed_bytes)
