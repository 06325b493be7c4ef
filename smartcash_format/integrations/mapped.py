"""The bytes of a source where they lie: one private mapping, tensors over it, nothing copied.

On network and FUSE mounts nothing is mapped (decision 0034): there the source is read as a whole.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

import torch

from smartcash_format.disk.mounts import file_system, is_mapped
from smartcash_format.errors import UnsafeCheckpointError
from smartcash_format.torch_io.dtypes import is_plain_memory

# Of a source that is written as a checkpoint, as much as lies in memory at once, or one tensor.
RESTED_BYTES: Final = 8 << 20


class MappedFile:
    """A mapping of an open file; `stream` is only used while tensors are made of it."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self._stream = stream
        self._data = self._map()
        whole = torch.frombuffer(self._data, dtype=torch.uint8) if len(self._data) else None
        self._begin, self._size = (whole.data_ptr(), whole.numel()) if whole is not None else (0, 0)

    def numbers(self, begin: int, size_bytes: int, width: int) -> torch.Tensor:
        """These bytes of the file, as many as there are, for numbers of so many bytes each."""
        if begin % width == 0:
            return torch.frombuffer(self._data, dtype=torch.uint8, count=size_bytes, offset=begin)
        # Numbers must begin at a multiple of their width; legacy files put them anywhere. Read, not
        # copied out of the mapping, which would stay in memory beside the copy.
        return torch.frombuffer(self._read(begin, size_bytes), dtype=torch.uint8)

    def place(self, tensor: torch.Tensor) -> tuple[int, int] | None:
        """From which byte of the file on a tensor lies, and how many it has.

        None where it has none, lies elsewhere or in another order than in a file.
        """
        begin, size_bytes = tensor.data_ptr() - self._begin, tensor.nbytes
        if size_bytes and 0 <= begin <= self._size - size_bytes and is_plain_memory(tensor):
            return begin, size_bytes
        return None

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
                f"{self.path.name} was not read: it became shorter meanwhile",
                path=self.path,
                file=self.path.name,
                first_refused="size",
            )
        return buffer


class Resting:
    """Gives back the memory of mapped files as often as so much was done with what is in them."""

    def __init__(self, mapped: Iterable[MappedFile]) -> None:
        self._mapped = tuple(mapped)
        self._done = 0
        self._lock = threading.Lock()

    def done(self, size_bytes: int) -> None:
        """From any thread: who still looks at what was given back gets it from the file again."""
        with self._lock:
            self._done += size_bytes
            if self._done >= RESTED_BYTES:
                self.rest()

    def rest(self) -> None:
        """Gives all of it back."""
        self._done = 0
        for mapped in self._mapped:
            mapped.rest()
