"""Small files beside checkpoints: pins, the history, exports. Whole, or appended to in one write.

None of them decides whether a checkpoint exists. System errors pass through; whoever writes a note
knows what its failure means.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from smartcash_format.disk.durable import sync_directory
from smartcash_format.disk.kinds import kind_of
from smartcash_format.disk.leftovers import discard
from smartcash_format.disk.owner import this_process
from smartcash_format.spec import layout

_SAFELY: Final = (
    getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
)
_BLANKS: Final = 1 << 20
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def read_note(path: Path, max_bytes: int, *, from_end: bool = False) -> bytes:
    """The first bytes of a plain file, or the last; links are not followed, pipes not waited for.

    Raises FileNotFoundError or what else the system says.
    """
    with _opened(path, os.O_RDONLY) as file:
        if from_end:
            file.seek(max(0, os.fstat(file.fileno()).st_size - max_bytes))
        return file.read(max_bytes)


@contextlib.contextmanager
def _opened(path: Path, mode: int) -> Iterator[BinaryIO]:
    descriptor = os.open(path, mode | _SAFELY)
    # What is written has to see what others write, so no buffer there.
    how, buffering = ("rb", -1) if mode == os.O_RDONLY else ("r+b", 0)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)  # open() would leave it open, and name its number in the error
        said = f"is {kind_of(kind)}, not a plain file; move it away"
        raise OSError(errno.EINVAL, said, str(path))
    with open(descriptor, how, buffering) as file:
        yield cast(BinaryIO, file)


@dataclass(frozen=True, slots=True)
class NoteLine:
    """A line of a note: where it begins, its bytes without the newline, the first of them."""

    offset: int
    size_bytes: int
    head: bytes


def note_lines(path: Path, max_bytes: int) -> Iterator[NoteLine]:
    """Every line of a plain file, each with its first bytes; as `read_note` otherwise."""
    with _opened(path, os.O_RDONLY) as file:
        offset = 0
        while head := file.readline(max_bytes):
            size = len(head)
            rest = head
            while not rest.endswith(b"\n") and (rest := file.readline(max_bytes)):
                size += len(rest)
            length = size - 1 if (rest or head).endswith(b"\n") else size
            yield NoteLine(offset, length, head[:length])
            offset += size


def comment_out(path: Path, lines: Iterable[NoteLine]) -> int:
    """Makes comments of lines, in place; how many. No other byte changes, also none appended since.

    A line that is not the same any more is left. Raises as `read_note`.
    """
    done = 0
    with _opened(path, os.O_RDWR) as file:
        for line in lines:
            if line.size_bytes == 0 or not _stands(file, line):
                continue
            file.seek(line.offset)
            file.write(b"#")
            for start in range(1, line.size_bytes, _BLANKS):
                file.write(b" " * min(_BLANKS, line.size_bytes - start))
            done += 1
        os.fsync(file.fileno())
    return done


def _stands(file: BinaryIO, line: NoteLine) -> bool:
    file.seek(line.offset)
    if file.read(len(line.head)) != line.head:
        return False
    file.seek(line.offset + line.size_bytes)
    return file.read(1) in (b"", b"\n")  # else its writer has gone on with it


def replace_note(path: Path, data: bytes) -> None:
    """Writes a file whole: a reader sees the earlier one or this one, also after a power cut.

    What a writer that is killed meanwhile leaves beside it is cleared with the other leftovers.
    """
    aside = path.with_name(layout.STAGING_PREFIX + this_process().name())
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o666)
    except OSError as error:
        error.filename = str(path)  # nobody knows of the one aside
        raise
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


def place_of(path: Path) -> Path:
    """Where a file of this name is written: the end of a link, so that the link stays.

    Raises OSError where something stands there that is no plain file: replacing a device or a
    directory with one would break more than it writes.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():
        kind = kind_of(place.stat().st_mode)
        raise OSError(errno.EINVAL, f"is {kind}, not a plain file; name another", str(path))
    return place


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
