"""The bytes of a source where they lie: one private mapping, tensors over it, nothing copied.

On network and FUSE mounts nothing is mapped (decision 0034): there the source is read as a whole.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import BinaryIO

import torch

from smartcash_format.disk.mounts import file_system, is_mapped
from smartcash_format.errors import UnsafeCheckpointError


class MappedFile:
    """A mapping of an open file; `stream` is only used while tensors are made of it."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        self._data = self._map()

    def numbers(self, begin: int, size_bytes: int, width: int) -> torch.Tensor:
        """These bytes of the file, as many as there are, for numbers of so many bytes each."""
        if begin % width == 0:
            return torch.frombuffer(self._data, dtype=torch.uint8, count=size_bytes, offset=begin)
        # Numbers must begin at a multiple of their width; legacy files put them anywhere. Read, not
        # copied out of the mapping, which would stay in memory beside the copy.
        return torch.frombuffer(self._read(begin, size_bytes), dtype=torch.uint8)

    def rest(self) -> None:
        """Gives the memory of what was read back; the next look reads the file again."""
        # Without it the pages of the source and those of what was written lie side by side.
        if isinstance(self._data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self._data.madvise(mmap.MADV_DONTNEED)

    def _map(self) -> mmap.mmap | bytearray:
        facts = os.fstat(self._stream.fileno())
        if is_mapped(file_system(facts.st_dev)):
            try:
                # Private pages: nothing that is done to a tensor reaches the source.
                return mmap.mmap(self._stream.fileno(), 0, access=mmap.ACCESS_COPY)
            except OSError:
                pass  # a mount that cannot
        return self._read(0, facts.st_size)

    def _read(self, begin: int, size_bytes: int) -> bytearray:
        buffer = bytearray(size_bytes)
        self._stream.seek(begin)
        if self._stream.readinto(buffer) != size_bytes:  # type: ignore[attr-defined]
            raise UnsafeCheckpointError(
                f"{self._path.name} was not read: it became shorter meanwhile",
                path=self._path,
                file=self._path.name,
                first_refused="size",
            )
        return buffer
