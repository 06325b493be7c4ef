"""Small files beside checkpoints: pins, the history, exports. Whole, or appended to in one write.

None of them decides whether a checkpoint exists. System errors pass through; whoever writes a note
knows what its failure means.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from smartcash_format.disk.durable import sync_directory
from smartcash_format.disk.leftovers import discard
from smartcash_format.disk.owner import this_process
from smartcash_format.disk.read import kind_of
from smartcash_format.spec import layout

_SAFELY: Final = (
    getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
)
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def read_note(path: Path, max_bytes: int, *, from_end: bool = False) -> bytes:
    """The first bytes of a plain file, or the last; links are not followed, pipes not waited for.

    Raises FileNotFoundError or what else the system says.
    """
    descriptor = os.open(path, os.O_RDONLY | _SAFELY)
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, f"is {kind_of(facts.st_mode)}, not a plain file", str(path))
        if from_end:
            file.seek(max(0, facts.st_size - max_bytes))
        return file.read(max_bytes)


def replace_note(path: Path, data: bytes) -> None:
    """Writes a file whole: a reader sees the earlier one or this one, also after a power cut.

    What a writer that is killed meanwhile leaves beside it is cleared with the other leftovers.
    """
    aside = path.with_name(layout.STAGING_PREFIX + this_process().name())
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o666)
    try:
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(aside, path)
    except BaseException:
        discard(aside)
        raise
    sync_directory(path.parent)


def remove_note(path: Path) -> None:
    """Removes a file; nothing happens where there is none."""
    path.unlink(missing_ok=True)


def set_aside(path: Path, aside: Path) -> None:
    """Gives a file another name. Raises FileExistsError when that is taken."""
    try:
        os.link(path, aside)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without links nothing is atomic and unclobbering at once: looking first has to do.
        if os.path.lexists(aside):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(aside)) from None
        os.replace(path, aside)
    else:
        os.unlink(path)


def append_note(path: Path, data: bytes) -> None:
    """Appends whole lines to a file, in one write at the end that the system chooses.

    Lines of several writers do not mix. A writer that died in the middle left no newline: one is
    written first, or the line would be lost with its. Links are not followed.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _SAFELY, 0o666)
    try:
        if _ends_torn(descriptor):
            data = b"\n" + data
        written = os.write(descriptor, data)
        if written < len(data):
            # The rest would not be one write: it could land behind another writer's line.
            raise OSError(errno.ENOSPC, "only a part could be written")
    finally:
        os.close(descriptor)


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    if size == 0:
        return False
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1) != b"\n"
