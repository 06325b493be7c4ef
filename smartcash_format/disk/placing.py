"""Bytes put at their place in a file, all of them, and on their way to the disk early."""

from __future__ import annotations

import ctypes
import errno
import os
import queue
import sys
import threading
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


class Writeback:
    """Asks the system to write the pages of a file to the disk while others are still made.

    Else all of them wait for the fsync. Only a hint: where there is no such call nothing happens.
    On a thread of its own, because a full queue of the disk makes the call wait.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self, offset: int, size_bytes: int) -> None:
        """These pages may go; waits for nothing. From any thread."""
        if _sync_file_range is None:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="writeback", daemon=True)
            self._thread.start()
        self._queue.put((offset, size_bytes))

    def stop(self) -> None:
        """Forgets what was not asked for yet; the descriptor is not used after this."""
        self._stopped = True
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        assert _sync_file_range is not None
        while (pages := self._queue.get()) is not None and not self._stopped:
            _sync_file_range(self._descriptor, *pages, _SYNC_FILE_RANGE_WRITE)


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
