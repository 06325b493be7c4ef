"""A checkpoint appears whole or not at all, and vanishes at once (FORMAT.md, Commit protocol).

The only place where a checkpoint appears or vanishes:

1. a hidden sibling of the final directory is made, named by its owner;
2. every file is written there and fsynced, meta.json last, then the directory;
3. the directory is renamed to its final name, and the parent fsynced.

What each step relies on:
- local file systems and NFS: the rename is atomic, so a reader sees nothing or all of it;
- mounts that rename a directory child by child, and those that refuse (EXDEV, ENOTSUP, EPERM; then
  the files are moved one by one, meta.json last): a directory whose meta.json is missing, or lists
  a file that is missing or short, is no checkpoint for any reader, so half is never taken for one;
- mounts whose fsync returns early (Drive, gcsfuse): after a power cut the newest may be absent;
  older ones are whole. This module cannot do better and does not claim to.

A failed fsync is never retried: Linux marks the pages clean, so a second one lies. The stage is
given up and the next save writes anew. Nothing here takes a lock: names are unique, and a rename
onto a directory with files in it fails everywhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from smartcash_format.disk.owner import Life, parse_owner, this_process
from smartcash_format.errors import (
    CheckpointExistsError,
    CheckpointWriteError,
    InsufficientSpaceError,
)
from smartcash_format.spec import layout

# A week: longer than any save, shorter than a quota takes to hurt.
UNKNOWN_OWNER_S: Final = 7 * 24 * 3600
_RENAME_REFUSED: Final = frozenset({errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM})
# Mounts that know no fsync of a directory answer one of these; there is nothing to wait for then.
_NO_DIRECTORY_FSYNC: Final = frozenset(
    {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.ENOSYS}
)


class Stage:
    """A checkpoint being written, invisible until `publish`."""

    def __init__(self, path: Path, final: Path) -> None:
        self.path = path
        self.final = final
        self.published = False

    def create(self, name: str) -> int:
        """A descriptor of a new file, open for reading and writing, with the mode open() gives."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        return os.open(self.path / name, flags | getattr(os, "O_BINARY", 0), 0o666)

    def publish(self) -> Path:
        """The final path, once the checkpoint is visible there and would survive a power cut."""
        sync_directory(self.path)
        try:
            os.rename(self.path, self.final)
        except OSError as error:
            self._rename_failed(error)
        self.published = True
        sync_directory(self.final.parent)
        return self.final

    def _rename_failed(self, error: OSError) -> None:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise CheckpointExistsError(
                f"{self.final.name} exists already; nothing was written", path=self.final
            ) from error
        if error.errno == errno.ENOENT and not self.path.exists() and self.final.exists():
            return  # NFS repeats a rename whose answer was lost: the first one succeeded.
        if error.errno not in _RENAME_REFUSED:
            raise error
        os.mkdir(self.final)
        _move_files(self.path, self.final)


def _move_files(source: Path, target: Path) -> None:
    names = sorted(os.listdir(source), key=lambda name: (name == layout.META, name))
    for name in names:
        if name == layout.META:
            sync_directory(target)
        os.rename(source / name, target / name)
    sync_directory(target)
    os.rmdir(source)


@contextlib.contextmanager
def stage(final: Path) -> Iterator[Stage]:
    """A stage beside `final`, discarded when the block ends without having published it.

    Makes the root if it is missing and clears what dead writers left there. Raises
    CheckpointExistsError when `final` is taken, CheckpointWriteError when the system refuses.
    """
    root = final.parent
    staged: Stage | None = None
    try:
        make_root(root)
        if os.path.lexists(final):
            raise CheckpointExistsError(f"{final} exists already; nothing was written", path=final)
        sweep(root)
        staged = Stage(root / (layout.STAGING_PREFIX + this_process().name()), final)
        os.mkdir(staged.path)
        yield staged
    except OSError as error:
        if isinstance(error, CheckpointWriteError | FileExistsError):
            raise
        raise write_error(error, final) from error
    finally:
        if staged is not None and not staged.published:
            discard(staged.path)


def make_root(root: Path) -> None:
    """Makes the root and what it stands in, each new name fsynced in its parent."""
    missing = []
    while not root.is_dir():
        missing.append(root)
        if root.parent == root:
            break
        root = root.parent
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)
        if not directory.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
        sync_directory(directory.parent)


def write_error(error: OSError, path: Path) -> CheckpointWriteError:
    """The error of our tree for a system error while writing, with the same errno."""
    reason = error.strerror or str(error) or type(error).__name__
    return CheckpointWriteError(
        f"{path.name} was not saved: {reason}; every earlier checkpoint is untouched",
        path=path,
        errno=error.errno,
    )


def require_space(root: Path, needed_bytes: int) -> None:
    """Returns when the file system under `root` has room for so many bytes, or says nothing.

    Raises InsufficientSpaceError before the first byte is written.
    """
    existing = root
    while not existing.exists() and existing.parent != existing:
        existing = existing.parent
    free = free_bytes(existing)
    if free is not None and free < needed_bytes:
        raise InsufficientSpaceError(
            f"{root} needs {needed_bytes:,} bytes for this save and has {free:,} free; nothing was "
            "written: remove or move checkpoints, then save again",
            path=root,
            errno=errno.ENOSPC,
            needed_bytes=needed_bytes,
            free_bytes=free,
        )


def free_bytes(path: Path) -> int | None:
    """What this process may still write under `path`; None where the mount does not say."""
    if not hasattr(os, "statvfs"):
        return shutil.disk_usage(path).free
    facts = os.statvfs(path)
    if facts.f_blocks == 0:
        return None
    # The blocks reserved for root are free for root alone.
    blocks = facts.f_bfree if os.geteuid() == 0 else facts.f_bavail
    return blocks * facts.f_frsize


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable, where the mount knows how."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FSYNC:
            raise
    finally:
        os.close(descriptor)


def remove(path: Path) -> int:
    """Makes a checkpoint vanish at once, then frees what it took; the bytes freed.

    It is renamed into the trash first, so that no reader sees half of one. Raises
    CheckpointWriteError when the system refuses; the checkpoint is whole or gone then.
    """
    trash = path.parent / (layout.TRASH_PREFIX + this_process().name())
    try:
        try:
            os.rename(path, trash)
        except OSError as error:
            if error.errno not in _RENAME_REFUSED:
                raise
            os.unlink(path / layout.META)  # no rename here: without it no reader takes the rest
            trash = path
        sync_directory(path.parent)
    except OSError as error:
        raise CheckpointWriteError(
            f"{path.name} was not removed: {error.strerror}", path=path, errno=error.errno
        ) from error
    return discard(trash)


def discard(directory: Path) -> int:
    """Deletes a stage or a trash directory as far as the system lets it; the bytes freed.

    What stays behind is hidden, is never taken for a checkpoint, and goes with a later sweep.
    """
    freed = 0
    truncate = not _links_work(directory)
    for parent, _, names in os.walk(directory, topdown=False, followlinks=False):
        for name in names:
            with contextlib.suppress(OSError):
                freed += _delete(os.path.join(parent, name), truncate=truncate)
        with contextlib.suppress(OSError):
            os.rmdir(parent)
    return freed


def _delete(path: str, *, truncate: bool) -> int:
    facts = os.lstat(path)
    alone = facts.st_nlink == 1 and stat.S_ISREG(facts.st_mode)
    if truncate and alone:
        # Google Drive moves what is unlinked to its trash, where it still counts: empty it first.
        # Never where hard links exist: truncating one name empties all of them.
        os.truncate(path, 0)
    os.unlink(path)
    return facts.st_size if alone else 0


def _links_work(directory: Path) -> bool:
    probe = directory / ".link-probe"
    try:
        with open(directory / ".link-source", "wb"):
            pass
        os.link(directory / ".link-source", probe)
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A stage or trash directory that somebody left, and whether that somebody still runs."""

    path: Path
    kind: Literal["stage", "trash"]
    life: Life
    age_s: float
    size_bytes: int

    @property
    def is_garbage(self) -> bool:
        """Whether the next writer may clear it."""
        return self.life == "dead" or (self.life == "unknown" and self.age_s > UNKNOWN_OWNER_S)


def leftovers(root: Path, *, now: float | None = None) -> list[Leftover]:
    """The stages and trash directories in a root, those of running writers included."""
    found = []
    with os.scandir(root) as entries:
        hidden = [
            e for e in entries if e.name.startswith((layout.STAGING_PREFIX, layout.TRASH_PREFIX))
        ]
    for entry in hidden:
        with contextlib.suppress(FileNotFoundError):
            found.append(_leftover(entry, time.time() if now is None else now))
    return sorted(found, key=lambda leftover: leftover.path)


def _leftover(entry: os.DirEntry[str], now: float) -> Leftover:
    kind: Literal["stage", "trash"] = "trash"
    prefix = layout.TRASH_PREFIX
    if entry.name.startswith(layout.STAGING_PREFIX):
        kind, prefix = "stage", layout.STAGING_PREFIX
    owner = parse_owner(entry.name.removeprefix(prefix))
    size = 0
    # Another user's leftover may be closed to us; it is listed all the same, with what can be seen.
    with contextlib.suppress(PermissionError, NotADirectoryError), os.scandir(entry.path) as files:
        size = sum(file.stat(follow_symlinks=False).st_size for file in files)
    # mtime decides nothing else anywhere; for a stranger's leftover there is no other clock.
    age = now - entry.stat(follow_symlinks=False).st_mtime
    life: Life = owner.life if owner else "unknown"
    return Leftover(path=Path(entry.path), kind=kind, life=life, age_s=age, size_bytes=size)


def sweep(root: Path) -> list[Leftover]:
    """Clears what dead writers left in a root; what was cleared."""
    cleared = [leftover for leftover in leftovers(root) if leftover.is_garbage]
    for leftover in cleared:
        discard(leftover.path)
    return cleared
