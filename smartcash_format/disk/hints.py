"""What the kernel is told beside the writing, where it listens: Linux, by the C library.

Neither changes what a file holds or when it is durable; fsync decides that. A file whose blocks are
taken at once is written with a quarter less of the processor's time, and a disk that begins early
has little left to do when fsync waits for it (docs/decisions/0033). Whatever the answer is, the
writing goes on: what is really wrong, it will be told there.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any, Final

# fallocate(2): the file is as long as what has been written of it, whenever that stops.
_KEEP_SIZE: Final = 1
# sync_file_range(2): begin to write, wait for nothing.
_WRITE: Final = 2
# Smaller files are one request to a disk anyhow.
_LEAST_BYTES: Final = 1 << 20


def reserve(descriptor: int, size_bytes: int) -> None:
    """Lets the file system choose the blocks of a file that will have so many bytes."""
    if size_bytes >= _LEAST_BYTES and (call := _function("fallocate")):
        call(descriptor, _KEEP_SIZE, _offset(0), _offset(size_bytes))


def start_writing(descriptor: int, offset: int, size_bytes: int) -> None:
    """Lets the disk begin with what was written of a file from this offset on."""
    if call := _function("sync_file_range"):
        call(descriptor, _offset(offset), _offset(size_bytes), ctypes.c_uint(_WRITE))


_offset = ctypes.c_int64


@cache
def _function(name: str) -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except OSError:
        return None
