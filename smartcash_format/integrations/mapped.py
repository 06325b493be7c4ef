"""The bytes of a source where they lie: one private mapping, tensors over it, nothing copied."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import BinaryIO

import torch

from smartcash_format.errors import UnsafeCheckpointError


class MappedFile:
    """A mapping of an open file; `stream` is only used while tensors are made of it."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        # Private pages: nothing that is done to a tensor reaches the source.
        self._mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)

    def numbers(self, begin: int, size_bytes: int, width: int) -> torch.Tensor:
        """These bytes of the file, as many as there are, for numbers of so many bytes each."""
        if begin % width == 0:
            return torch.frombuffer(self._mapped, dtype=torch.uint8, count=size_bytes, offset=begin)
        # Numbers must begin at a multiple of their width; legacy files put them anywhere. Read, not
        # copied out of the mapping, which would stay in memory beside the copy.
        buffer = bytearray(size_bytes)
        self._stream.seek(begin)
        if self._stream.readinto(buffer) != size_bytes:  # type: ignore[attr-defined]
            raise UnsafeCheckpointError(
                f"{self._path.name} was not read: it became shorter meanwhile",
                path=self._path,
                file=self._path.name,
                first_refused="size",
            )
        return torch.frombuffer(buffer, dtype=torch.uint8)

    def rest(self) -> None:
        """Gives the memory of what was read back; the next look reads the file again."""
        # Without it the pages of the source and those of what was written lie side by side.
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)
