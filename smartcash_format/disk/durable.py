"""Names that survive a power cut: a new one is durable once its directory is fsynced."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from smartcash_format.spec import layout

# Mounts that know no fsync of a directory answer one of these; there is nothing to wait for then.
_NO_DIRECTORY_FSYNC: Final = frozenset(
    {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.ENOSYS}
)
_DIRECTORY: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable, where the mount knows how."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(path, _DIRECTORY)
    except PermissionError:
        return  # one may write in a directory that one may not list: there is no way to sync it
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FSYNC:
            raise
    finally:
        os.close(descriptor)


def home_problem(path: Path) -> str:
    """Why nothing is made under a name that begins with `~`; nothing of any other.

    A directory of that name is one that somebody removes, and his home with it.
    """
    if path.parts[:1] != ("~",):
        return ""
    return f"{path} begins with ~, which only a shell expands: pass Path(...).expanduser()"


def make_root(root: Path) -> None:
    """Makes the root and what it stands in, each new name fsynced in its parent.

    One that is there and has nothing visible yet is fsynced too: whoever made it may have been
    killed before, and is perhaps just about to.
    """
    if problem := home_problem(root):
        raise FileNotFoundError(errno.ENOENT, problem, str(root))
    missing = []
    while not root.is_dir():
        missing.append(root)
        if root.parent == root:
            break
        root = root.parent
    if root.parent != root and _is_fresh(root):
        sync_directory(root.parent)
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)
        if not directory.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
        sync_directory(directory.parent)


def _is_fresh(directory: Path) -> bool:
    """Whether nothing was ever published in it: its own name may not be durable."""
    try:
        with os.scandir(directory) as found:
            return all(layout.is_hidden(entry.name) for entry in found)
    except OSError:
        return False  # what is wrong with it is told by who writes into it
