"""Bytes put at their place in a file, all of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
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
