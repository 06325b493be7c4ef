"""Bytes put at their place in a file, all of them, and on their way to the disk early."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

# A single write() takes at most 0x7ffff000 bytes on Linux and INT_MAX on macOS.
WRITE_BYTES: Final = 1 << 30


def write_at(descriptor: int, offset: int, buffers: Sequence[bytes | memoryview]) -> None:
    """Writes all of the buffers, one after the other, from this offset on."""
    data = buffers[0] if len(buffers) == 1 else b"".join(buffers)
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view[:WRITE_BYTES], offset)
        if written == 0:
            raise OSError(errno.EIO, "the system wrote nothing and gave no reason")
        view = view[written:]
        offset += written


def start_writeback(descriptor: int, offset: int, size_bytes: int) -> None:
    """Asks the system to start writing these pages to the disk, and waits for nothing.

    Else all of them wait for the fsync. Only a hint: where there is no such call nothing happens.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, size_bytes, _SYNC_FILE_RANGE_WRITE)


def _find_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    found: Callable[[int, int, int, int], int] = function
    return found


_SYNC_FILE_RANGE_WRITE: Final = 2
_sync_file_range = _find_sync_file_range()
