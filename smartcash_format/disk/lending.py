"""Pieces of a file lent by the page cache: mapped for a moment in which nobody can cut the file.

Copying out of the page cache takes as long as hashing does. A mapping needs no copy, but whoever
makes the file shorter, or a sector that cannot be read, ends the process that looks at it (SIGBUS).
Linux rules out both, up to what docs/decisions/0052 names. Under a read lease (fcntl(2),
F_SETLEASE) whoever opens the file for writing, or truncates it, waits until the lease is given
back, and there is none while it is open for writing. MADV_POPULATE_READ reads all of a mapping in
advance, and what cannot be read is an error.

Where any of this is not to be had (another system, an older kernel, a file of another user), and
from the first piece on that the page cache does not have, nothing is lent, and the bytes are read:
while one mebibyte is hashed the disk reads ahead, and a whole piece would be waited for.
"""

from __future__ import annotations

import errno
import functools
import mmap
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

# What is lent at a time, for the milliseconds in which it is hashed: each piece costs ten calls
# that give up Python's lock, and a larger one would keep whoever wants to write waiting.
LENT_BYTES: Final = 16 << 20
# madvise(2), since Linux 5.14; an older kernel refuses it.
_POPULATE_READ: Final = 22
# Of each so many bytes one page is asked for: reading ahead and giving up go by stretches.
_ASKED_BYTES: Final = 1 << 20


def lent_pieces(
    descriptor: int, size_bytes: int, each_bytes: int = LENT_BYTES
) -> Generator[memoryview, None, None]:
    """The file's bytes in order, from its begin on, as far as they are to be had.

    A piece is valid until the next one is asked for. What does not come has to be read. Who stops
    early closes this: until then the lease is held, even of a descriptor that is closed. One at a
    time for each descriptor, which has one lease.
    """
    if sys.platform != "linux":
        return
    for begin in range(0, size_bytes, each_bytes):
        count = min(each_bytes, size_bytes - begin)
        try:
            with _leased(descriptor), _mapped(descriptor, begin, count) as piece:
                yield piece
        # ValueError: it ends before. ImportError: a Python that was built without ctypes.
        except (OSError, ValueError, ImportError):
            return


@contextmanager
def _leased(descriptor: int) -> Iterator[None]:
    """Raises OSError where the system gives no lease."""
    import fcntl

    # That somebody waits for the lease is told by a signal: by one that is ignored unless somebody
    # wants it, instead of by SIGIO, which ends the process.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    try:
        yield
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


@contextmanager
def _mapped(descriptor: int, begin: int, count: int) -> Iterator[memoryview]:
    """A part of the file, all of it in memory. Raises OSError for what is not, or cannot be."""
    # Private, so writable for whoever asks for an address; nothing is ever written.
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    mapped = mmap.mmap(descriptor, count, mmap.MAP_PRIVATE, protection, offset=begin)
    if not _is_cached(mapped):
        raise BlockingIOError(errno.EAGAIN, "not in the page cache")
    mapped.madvise(mmap.MADV_SEQUENTIAL)
    _populate(mapped)
    piece = memoryview(mapped).toreadonly()
    try:
        yield piece
    finally:
        with suppress(BufferError):  # whoever has a part of it still: unmapped when that goes
            piece.release()
            mapped.close()


def _is_cached(mapped: mmap.mmap) -> bool:
    import ctypes  # what only asks does not wait for it

    address, found = _address(mapped), ctypes.c_ubyte()
    return all(
        _mincore()(address + at, 1, ctypes.byref(found)) == 0 and found.value & 1
        for at in range(0, len(mapped), _ASKED_BYTES)
    )


def _populate(mapped: mmap.mmap) -> None:
    import ctypes

    # Python's own madvise() keeps all other threads waiting meanwhile.
    if _madvise()(_address(mapped), len(mapped), _POPULATE_READ) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _address(mapped: mmap.mmap) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(mapped))


@functools.cache
def _mincore() -> Callable[[int, int, Any], int]:
    import ctypes

    # Each call takes a microsecond: longer than that would be the wait for Python's lock.
    call = ctypes.PyDLL(None).mincore
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    return call


@functools.cache
def _madvise() -> Callable[[int, int, int], int]:
    import ctypes

    call = ctypes.CDLL(None, use_errno=True).madvise
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return call
