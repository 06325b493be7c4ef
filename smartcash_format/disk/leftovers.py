"""What writers that died left in a root: known by its name, listed, and deleted.

Never reached through a link: whoever may write in a root could otherwise aim the next save of
another user at his home. What cannot be deleted stays; it is hidden and never taken for a
checkpoint.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from smartcash_format.disk.owner import Life, parse_owner, this_process
from smartcash_format.spec import layout

# A week: longer than any save, shorter than a quota takes to hurt.
UNKNOWN_OWNER_S: Final = 7 * 24 * 3600
# What we write is flat; what a stranger puts under our names may be as deep as he likes.
_DISCARD_DEPTH: Final = 8
# What mounts answer that cannot rename a directory; gcsfuse says EMFILE for one with many files.
RENAME_REFUSED: Final = frozenset(
    {errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS, errno.EMFILE}
)
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_DIRECTORY: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
# The names of what this process was deleting when an interrupt came.
_given_up: Final[set[str]] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A stage or trash directory that somebody left, and whether that somebody still runs."""

    path: Path
    kind: Literal["stage", "trash"]
    life: Life
    age_s: float
    size_bytes: int

    @property
    def is_dead(self) -> bool:
        """Whether its writer is certain not to run any more."""
        return self.life == "dead"

    @property
    def is_garbage(self) -> bool:
        """Whether the next writer may clear it."""
        return self.is_dead or (self.life == "unknown" and self.age_s > UNKNOWN_OWNER_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """A directory without meta.json in which a file has a name of this format.

    So a save or copy looks that was cut short on a mount that cannot rename directories, and a
    removal there that did not come to its end.
    """

    path: Path
    age_s: float
    size_bytes: int


def remains(directory: Path, *, now: float | None = None) -> Remains | None:
    """What of a checkpoint lies in a directory that is none; None when there is nothing like it."""
    moment = time.time() if now is None else now
    try:
        age = moment - os.lstat(directory).st_mtime
        with os.scandir(directory) as found:
            items = [(item.name, item.stat(follow_symlinks=False)) for item in found]
    except OSError:
        return None
    files = {name: facts.st_size for name, facts in items if stat.S_ISREG(facts.st_mode)}
    if layout.META in files or all(layout.role_of(name)[0] == "aux" for name in files):
        return None
    return Remains(path=directory, age_s=age, size_bytes=sum(files.values()))


def leftovers(root: Path, *, now: float | None = None) -> list[Leftover]:
    """What stages and trash there are in a root and among its pins, running writers' included."""
    found = []
    moment = time.time() if now is None else now
    for entry in _hidden(root):
        # Cleared by another writer meanwhile, or not to be looked at at all.
        with contextlib.suppress(OSError):
            found.append(_leftover(entry, moment))
    return sorted(found, key=lambda leftover: leftover.path)


def _hidden(root: Path) -> list[os.DirEntry[str]]:
    prefixes = (layout.STAGING_PREFIX, layout.TRASH_PREFIX)
    with os.scandir(root) as entries:
        hidden = [entry for entry in entries if entry.name.startswith((*prefixes, layout.PINS))]
    found = [entry for entry in hidden if entry.name.startswith(prefixes)]
    for pins in (e for e in hidden if e.name == layout.PINS and e.is_dir(follow_symlinks=False)):
        with contextlib.suppress(OSError), os.scandir(pins) as entries:
            found += [entry for entry in entries if entry.name.startswith(prefixes)]
    return found


def _leftover(entry: os.DirEntry[str], now: float) -> Leftover:
    kind: Literal["stage", "trash"] = "trash"
    prefix = layout.TRASH_PREFIX
    if entry.name.startswith(layout.STAGING_PREFIX):
        kind, prefix = "stage", layout.STAGING_PREFIX
    owner = parse_owner(entry.name.removeprefix(prefix))
    facts = entry.stat(follow_symlinks=False)
    size = facts.st_size if stat.S_ISREG(facts.st_mode) else 0
    # Another user's leftover may be closed to us, another writer's vanishes while we look, or it is
    # no directory: it is listed all the same, with what can be seen.
    if entry.is_dir(follow_symlinks=False):
        with contextlib.suppress(OSError), os.scandir(entry.path) as files:
            for file in files:
                size += file.stat(follow_symlinks=False).st_size
    # mtime decides nothing else anywhere; for a stranger's leftover there is no other clock.
    age = now - facts.st_mtime
    life: Life = owner.life if owner else "unknown"
    if entry.name in _given_up:
        life = "dead"  # as good as: its writer, which runs, wants it no more
    return Leftover(path=Path(entry.path), kind=kind, life=life, age_s=age, size_bytes=size)


def mount_time(root: Path) -> float | None:
    """The time by the clock of the mount, as a new directory gets it; None where none is made.

    That of a file server may differ from ours by days.
    """
    probe = root / (layout.STAGING_PREFIX + this_process().name())
    try:
        os.mkdir(probe)
        try:
            return os.stat(probe).st_mtime
        finally:
            os.rmdir(probe)
    except OSError:
        return None


def discard(directory: Path) -> int:
    """Deletes a stage or a trash directory of this process as far as the system lets it.

    The bytes freed. What may be another process's is for `sweeping.clear`.

    Links are deleted, never followed. What stays behind is never taken for a checkpoint, and goes
    with a later sweep: what an interrupt left, with one of this process too.
    """
    try:
        return _discard(directory)
    except BaseException:
        _given_up.add(directory.name)
        raise


def _discard(directory: Path) -> int:
    try:
        facts = os.lstat(directory)
        if not stat.S_ISDIR(facts.st_mode):
            os.unlink(directory)
            return facts.st_size if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 else 0
        descriptor = os.open(directory, _DIRECTORY | _NOFOLLOW)
    except OSError:
        return 0
    try:
        freed = _empty(descriptor, truncate=not _links_work(descriptor), depth=_DISCARD_DEPTH)
    finally:
        os.close(descriptor)
    with contextlib.suppress(OSError):
        os.rmdir(directory)
    return freed


def _empty(directory: int, *, truncate: bool, depth: int) -> int:
    freed = 0
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            with contextlib.suppress(OSError):
                freed += _delete(name, directory, truncate=truncate, depth=depth)
    return freed


def _delete(name: str, parent: int, *, truncate: bool, depth: int) -> int:
    facts = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISDIR(facts.st_mode):
        if depth == 0:
            return 0
        descriptor = os.open(name, _DIRECTORY | _NOFOLLOW, dir_fd=parent)
        try:
            freed = _empty(descriptor, truncate=truncate, depth=depth - 1)
        finally:
            os.close(descriptor)
        os.rmdir(name, dir_fd=parent)
        return freed
    if truncate:
        with contextlib.suppress(OSError):
            _truncate(name, parent)
    os.unlink(name, dir_fd=parent)
    return facts.st_size if facts.st_nlink == 1 else 0


def _truncate(name: str, parent: int) -> None:
    # Google Drive moves what is unlinked to its trash, where it still counts: empty it first.
    # Never where hard links exist: truncating one name empties all of them.
    descriptor = os.open(name, os.O_WRONLY | os.O_NONBLOCK | _NOFOLLOW, dir_fd=parent)
    try:
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _links_work(directory: int) -> bool:
    source = f".probe-{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        os.close(os.open(source, flags, 0o600, dir_fd=directory))
    except OSError:
        return True  # not known
    try:
        os.link(source, f"{source}-link", src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        return error.errno not in _NO_LINKS
    return True
