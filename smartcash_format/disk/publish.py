"""A checkpoint appears whole or not at all, and vanishes at once (FORMAT.md, Commit protocol).

The only place where a checkpoint appears or vanishes, but for a protected one that `sweeping` puts
back out of the trash of a pruner that was killed:

1. a hidden sibling of the final directory is made, named by its owner;
2. every file is written there and fsynced, meta.json last, then the directory;
3. the directory is renamed to its final name, and the parent fsynced.

What each step relies on:
- local file systems and NFS: the rename is atomic, so a reader sees nothing or all of it;
- mounts that rename a directory child by child, and those that refuse to (then the files are moved
  one by one, meta.json last): a directory whose meta.json is missing, or lists a file that is
  missing or short, is no checkpoint for any reader, so half is never taken for one;
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
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from smartcash_format.disk.drive import drive_problem
from smartcash_format.disk.durable import home_problem, make_root, sync_directory
from smartcash_format.disk.leftovers import RENAME_REFUSED, discard, mount_time
from smartcash_format.disk.owner import this_process
from smartcash_format.disk.pool import Pool
from smartcash_format.disk.read import is_checkpoint
from smartcash_format.disk.sweeping import sweep
from smartcash_format.errors import (
    CheckpointError,
    CheckpointExistsError,
    CheckpointWriteError,
    InsufficientSpaceError,
)
from smartcash_format.spec import layout

# Several fsyncs overlap in the disk's queue; more of them wait for each other.
SYNCS_AT_ONCE: Final = 4


class Stage:
    """A checkpoint being written, invisible until `publish`."""

    def __init__(self, path: Path, final: Path) -> None:
        self.path = path
        self.final = final
        self.published = False
        self._syncing: Pool | None = None
        self._syncs: list[Future[None]] = []

    def create(self, name: str) -> int:
        """A descriptor of a new file, open for reading and writing, with the mode open() gives."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        return os.open(self.path / name, flags | getattr(os, "O_BINARY", 0), 0o666)

    def link(self, name: str, source: Path, identity: tuple[int, int]) -> None:
        """The file `source` under a name here too: no byte is written, and it is durable as it is.

        `identity` is the device and inode that it has to be. Raises OSError where the system
        refuses, or where another file stands there now; then nothing has the name here.
        """
        target = self.path / name
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:
            # NFS repeats a link whose answer was lost, and then says EEXIST.
            if _identity(target) != identity:
                raise
        if _identity(target) != identity:
            os.unlink(target)
            raise OSError(errno.ESTALE, "another file has its name now", str(source))

    def make_durable(self, descriptor: int) -> None:
        """Takes over a descriptor of a complete file: fsyncs and closes it on another thread."""
        if self._syncing is None:
            self._syncing = Pool(SYNCS_AT_ONCE, thread_name_prefix="fsync")
        self._syncs.append(self._syncing.submit(_sync_and_close, descriptor))

    def settle(self) -> None:
        """Waits until nothing of this stage is under way; failures are left for `publish`."""
        if self._syncing is not None:
            self._syncing.shutdown(wait=True)
            self._syncing = None

    def publish(self) -> Path:
        """The final path, once the checkpoint is visible there and would survive a power cut.

        Waits for every fsync first. A failed one is never retried: it is raised.
        """
        for sync in self._syncs:
            sync.result()
        sync_directory(self.path)
        identity = _identity(self.path)
        moved = False
        try:
            os.rename(self.path, self.final)
        except OSError as error:
            # NFS repeats a rename whose answer was lost, and then says ENOENT; others say EINTR.
            if identity is None or _identity(self.final) != identity:
                self._move_files(error)
                moved = True
        self.published = True
        if moved:
            sync_directory(self.final)
            discard(self.path)
        sync_directory(self.final.parent)
        return self.final

    def _move_files(self, error: OSError) -> None:
        """Moves them one by one where the mount cannot rename a directory; else raises why not."""
        taken = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
        if error.errno in taken and os.path.lexists(self.final):
            raise _exists(self.final) from error
        if error.errno not in RENAME_REFUSED:
            raise error
        try:
            os.mkdir(self.final)
        except FileExistsError as taken_now:
            raise _exists(self.final) from taken_now
        _move(self.path, self.final)


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move(source: Path, target: Path) -> None:
    try:
        for name in sorted(os.listdir(source)):
            if name != layout.META:
                os.rename(source / name, target / name)
        sync_directory(target)
        os.rename(source / layout.META, target / layout.META)
    except BaseException:
        discard(target)
        raise


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _exists(path: Path) -> CheckpointExistsError:
    return CheckpointExistsError(f"{path} exists already; nothing was written", path=path)


@contextlib.contextmanager
def stage(final: Path, *, verb: str = "saved") -> Iterator[Stage]:
    """A stage beside `final`, discarded when the block ends without having published it.

    Makes the root if it is missing and clears what dead writers left there. Raises
    CheckpointExistsError when `final` is taken, CheckpointWriteError when the system refuses, the
    root is a checkpoint, or Drive is not mounted there: then `final` "was not saved", or whatever
    `verb` there is.
    """
    root = final.parent
    staged: Stage | None = None
    try:
        require_root(final, verb)
        make_root(root)
        if os.path.lexists(final):
            raise _exists(final)
        path = root / (layout.STAGING_PREFIX + this_process().name())
        os.mkdir(path)
        staged = Stage(path, final)
        tidy(root, now=os.stat(path).st_mtime)
        yield staged
    except CheckpointError:
        raise
    except OSError as error:
        what = f"was not {verb}"
        if staged is not None and staged.published:
            what = "is complete, but whether it would survive a power cut is not known"
        raise write_error(error, final, what) from error
    finally:
        if staged is not None:
            staged.settle()
            if not staged.published:
                discard(staged.path)


def require_root(final: Path, verb: str = "saved") -> None:
    """Raises CheckpointWriteError where what is written would be lost with something else."""
    root = final.parent
    # Where Drive is not mounted lies the disk of a machine that goes when the session ends.
    if problem := home_problem(root) or drive_problem(root):
        number = errno.ENODEV
    elif around := _checkpoint_around(root):  # what lies in one goes with it when that is pruned
        said = "is a checkpoint" if around == _real(root) else f"is in the checkpoint {around}"
        problem = f"{root} {said}, its root is {around.parent}"
        number = errno.ENOTDIR
    else:
        return
    raise CheckpointWriteError(f"{final.name} was not {verb}: {problem}", path=final, errno=number)


def _checkpoint_around(root: Path) -> Path | None:
    real = _real(root)
    return next((path for path in (real, *real.parents) if is_checkpoint(path)), None)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def tidy(root: Path, *, now: float | None) -> None:
    """Clears what dead writers left, before something is written; `now` as `sweep` takes it."""
    # One may write in a root that one may not list, and an untidy root is no reason not to save.
    with contextlib.suppress(OSError):
        sweep(root, now=now)


def write_error(error: OSError, path: Path, what: str = "was not saved") -> CheckpointWriteError:
    """The error of our tree for a system error while writing, with the same errno."""
    reason = error.strerror or str(error) or type(error).__name__
    return CheckpointWriteError(
        f"{path.name} {what}: {reason}; every earlier checkpoint is untouched",
        path=path,
        errno=error.errno,
    )


def require_space(root: Path, needed_bytes: int) -> None:
    """Returns when the file system under `root` has room for so many bytes, or says nothing.

    What dead writers left in the root is cleared before it is called full. Raises
    InsufficientSpaceError before the first byte is written, CheckpointWriteError where the system
    does not let it be looked at.
    """
    existing = root
    try:
        while not existing.exists() and existing.parent != existing:
            existing = existing.parent
        free = free_bytes(existing)
    except OSError as error:
        raise write_error(error, root, "cannot be written into") from error
    if free is not None and free < needed_bytes and existing == root:
        tidy(root, now=mount_time(root))
        free = free_bytes(root)
    if free is not None and free < needed_bytes:
        raise InsufficientSpaceError(
            f"{root} needs {needed_bytes:,} bytes and has {free:,} free; nothing was written: "
            "remove or move checkpoints, then try again",
            path=root,
            errno=errno.ENOSPC,
            needed_bytes=needed_bytes,
            free_bytes=free,
        )


def free_bytes(path: Path) -> int | None:
    """What this process may still write under `path`; None where the mount does not say."""
    if not hasattr(os, "statvfs"):
        return shutil.disk_usage(path).free
    try:
        facts = os.statvfs(path)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return None
        raise
    if facts.f_blocks == 0:
        return None
    # The blocks reserved for root are free for root alone.
    blocks = facts.f_bfree if os.geteuid() == 0 else facts.f_bavail
    return blocks * facts.f_frsize


def remove(path: Path, *, unless: Callable[[], bool] = lambda: False) -> int:
    """Makes a checkpoint vanish at once, then frees what it took; the bytes freed.

    It is renamed into the trash first, so that no reader sees half of one; of a symbolic link only
    the link goes. One that another process removed meanwhile is no error. When `unless` says so
    after that, or anything fails, it comes back: whoever pins it and then still finds it, keeps it.

    Its signature beside it goes after it, in the same way: over nothing it is worth nothing.

    Raises CheckpointWriteError when it is protected or the system refuses; the checkpoint is whole
    then, or gone. Where it could not even be put back the error says where it lies.
    """
    trash = path.parent / (layout.TRASH_PREFIX + this_process().name())
    try:
        where = _set_apart(path, trash)
        if where is None:
            return 0
        try:
            if unless():
                raise OSError(errno.EBUSY, "it was protected this moment")
            if where == path:
                _unmark(path)
            # Before anything inside goes: after a power cut it is whole, here or in the trash.
            sync_directory(path.parent)
        except BaseException:
            if where == trash:
                _put_back(trash, path)
            raise
    except OSError as error:
        raise CheckpointWriteError(
            f"{path.name} {_left(path, trash)}: {error.strerror or error}",
            path=path,
            errno=error.errno,
        ) from error
    signature = _set_signature_apart(path)
    freed = discard(where)
    if signature is not None:
        discard(signature)
    return freed


def _set_signature_apart(path: Path) -> Path | None:
    """The trash that the signature of what is gone now lies in; None where it has none."""
    signature = path.parent / (path.name + layout.SIGNATURE_SUFFIX)
    trash = path.parent / (layout.TRASH_PREFIX + this_process().name())
    if os.path.lexists(path / layout.META):
        return None  # of another, that was saved here this moment
    # The checkpoint is gone, and so its removal has not failed: what cannot be moved stays.
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.lstat(signature).st_mode):
            os.rename(signature, trash)
            return trash
    return None


def _left(path: Path, trash: Path) -> str:
    if os.path.lexists(trash):
        return f"was not removed, and could not be put back: it lies in {trash}, rename it"
    if os.path.isdir(path) and not os.path.lexists(path / layout.META):
        return "is no checkpoint any more, but its files still take room"
    return "was not removed"


def _set_apart(path: Path, trash: Path) -> Path | None:
    """The trash, or its own path where the mount does not rename; None when it is gone."""
    try:
        os.rename(path, trash)
    except FileNotFoundError:
        return trash if os.path.lexists(trash) else None
    except OSError as error:
        if error.errno not in RENAME_REFUSED:
            raise
        return path
    return trash


def _put_back(trash: Path, path: Path) -> None:
    # What fails here is told by the error that led here, which looks where it lies.
    with contextlib.suppress(OSError):
        os.rename(trash, path)
        sync_directory(path.parent)


def _unmark(path: Path) -> None:
    """Makes it no checkpoint where it cannot be renamed: without meta.json no reader takes it."""
    if path.is_symlink():
        return  # the link itself is what goes
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path / layout.META)
    sync_directory(path)
