"""Carries a plan out: removes and strips, and says what was done and what was not.

What is no longer as the plan saw it stays, and so does what was protected since, also while it was
being removed. The last one of a root that can be read never goes, whatever became of those that the
plan kept. What one entry meets costs no other; what was done is always noted.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from smartcash_format.disk import pins
from smartcash_format.disk.leftovers import remains
from smartcash_format.disk.publish import remove
from smartcash_format.disk.read import read_meta
from smartcash_format.disk.strip import strip
from smartcash_format.errors import CheckpointError, CheckpointNotFoundError
from smartcash_format.spec import layout
from smartcash_format.store.catalog import read_entry, scan
from smartcash_format.store.entry import Entry
from smartcash_format.store.retention import Plan

Clock = Callable[[], datetime]
# Writes into the history of a root that these are gone or were replaced; what was not as usual.
Note = Callable[[Path, Sequence[Entry]], tuple[str, ...]]
_ONLY: Final = "it is the only checkpoint of this root that can be read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was done of a plan: the paths removed, oldest first, and what could not be done.

    `stripped` are the paths that stand where a checkpoint with its resume state stood; `refused`
    are the errors that kept one from going, which `warnings` tell too.
    """

    paths: tuple[Path, ...] = ()
    stripped: tuple[Path, ...] = ()
    freed_bytes: int = 0
    warnings: tuple[str, ...] = ()
    refused: tuple[CheckpointError | OSError, ...] = ()


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
    refused: list[CheckpointError | OSError] = []
    lasting = _Lasting((*plan.kept, *plan.stripped))

    def remove_one(entry: Entry, is_protected: Callable[[str], bool]) -> _Done:
        return _remove(entry, is_protected, lasting)

    try:
        _each(plan.doomed, remove_one, clock, removed, warnings, refused)
        _each(plan.stripped, _strip, clock, stripped, warnings, refused)
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
        refused=tuple(refused),
    )


def _each(
    entries: Iterable[Entry],
    act: Callable[[Entry, Callable[[str], bool]], _Done],
    clock: Clock,
    done: list[_Done],
    warnings: list[str],
    refused: list[CheckpointError | OSError],
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
        except (CheckpointError, OSError) as error:
            if isinstance(error, CheckpointError):
                warnings.append(str(error))
            else:
                warnings.append(f"{entry.name} stays: {error.strerror or error}")
            if not was_protected(error):
                refused.append(error)


def was_protected(error: CheckpointError | OSError) -> bool:
    """Whether one was not removed because it was protected this moment: it stays as it should."""
    return isinstance(error, OSError) and error.errno == errno.EBUSY


class _Lasting:
    """One checkpoint of each root that stays, looked at again before another goes."""

    def __init__(self, kept: Iterable[Entry]) -> None:
        self._of_root = {entry.parent: entry for entry in sorted(kept, key=lambda one: one.order)}

    def require_beside(self, entry: Entry) -> None:
        """Raises OSError when nothing else in its root can be read: plans age, and others prune."""
        last = self._of_root.get(entry.parent)
        if last is not None and last.name != entry.name and isinstance(read_entry(last), Entry):
            return
        found = next((each for each in scan(entry.parent) if each.name != entry.name), None)
        if found is None:
            raise OSError(errno.EBUSY, _ONLY)
        self._of_root[entry.parent] = found


def _remove(entry: Entry, is_protected: Callable[[str], bool], lasting: _Lasting) -> _Done:
    def stays() -> bool:
        # It is in the trash now: of two that remove the last two of a root, neither sees the other.
        lasting.require_beside(entry)
        return is_protected(entry.checkpoint_id)

    freed_bytes = remove(entry.path, unless=stays)
    return _Done(entry, entry.path, freed_bytes)


def _strip(entry: Entry, is_protected: Callable[[str], bool]) -> _Done:
    stripped = strip(entry.path, unless=is_protected)
    return _Done(entry, stripped.path, stripped.freed_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What somebody wants to remove by its name; `stays` says why it cannot be, if it cannot.

    `entry` is None for what is broken, or only a part of a checkpoint.
    """

    path: Path
    entry: Entry | None
    checkpoint_id: str | None
    size_bytes: int
    stays: str | None


def look(path: Path, now: datetime) -> Named:
    """What has a name. Raises CheckpointNotFoundError where no checkpoint is nor a part of one."""
    if path.name in ("", ".."):
        path = Path(os.path.abspath(path))
    found = read_entry(path)
    # A file is no checkpoint, broken or whole, and may be the history of all.
    is_none = not path.is_dir() or (found is None and remains(path) is None)
    if layout.is_hidden(path.name) or is_none:
        raise CheckpointNotFoundError(
            f"{path}: there is neither a checkpoint nor a part of one",
            root=path.parent,
            query=path.name,
        )
    entry = found if isinstance(found, Entry) else None
    checkpoint_id = _id(path)
    stays = None
    if checkpoint_id is not None:
        stays = pins.read_pins(pins.root_of(path), now).get(checkpoint_id)
    if stays is None and entry is not None and not path.is_symlink():
        stays = None if _has_another(path) else _ONLY
    size_bytes = sum(_sizes(path))
    return Named(
        path=path, entry=entry, checkpoint_id=checkpoint_id, size_bytes=size_bytes, stays=stays
    )


def remove_named(named: Named, *, clock: Clock) -> int:
    """Removes it, unless it has been protected since or became the last; the bytes freed."""
    home = pins.root_of(named.path)
    counts = named.entry is not None and not named.path.is_symlink()

    def stays() -> bool:
        if counts and not _has_another(named.path):
            raise OSError(errno.EBUSY, _ONLY)
        return named.checkpoint_id in pins.read_pins(home, clock())

    return remove(named.path, unless=stays)


def _has_another(path: Path) -> bool:
    """Whether another checkpoint of its root can be read."""
    return any(each.name != path.name for each in scan(path.parent))


def _id(path: Path) -> str | None:
    """The id that the meta.json says; None where it says none: no pin can be told to be its own."""
    try:
        return read_meta(path).checkpoint_id
    except (CheckpointError, OSError):
        return None


def _sizes(path: Path) -> list[int]:
    with contextlib.suppress(OSError), os.scandir(path) as found:
        return [item.stat(follow_symlinks=False).st_size for item in found]
    return []
