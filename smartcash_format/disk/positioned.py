"""Reading a descriptor at a position: nothing moves that other readers of it share."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import repeat
from typing import Final

from smartcash_format.disk.pool import Pool

# Read where it is said, without moving a position that all readers of a descriptor share.
_POSITIONED: Final = hasattr(os, "pread")
# What one thread reads at a time: it stays in the cache of its core until it is hashed.
CHUNK_BYTES: Final = 1 << 20
# Positions and the bytes that were read there.
Parsed = list[tuple[int, bytes]]


def read_into(descriptor: int, target: memoryview, position: int) -> None:
    """Fills `target` from this position. Raises OSError when the file ends before."""
    done = 0
    while done < len(target):
        count = _read_some(descriptor, target[done:], position + done)
        if count == 0:
            raise OSError(errno.EIO, "the file became shorter while it was read")
        done += count


def read_chunks(
    descriptor: int,
    size_bytes: int,
    *,
    first: int = 0,
    into: memoryview | None = None,
    threads: int = 1,
) -> Generator[memoryview, None, None]:
    """All bytes from `first` on in order, in pieces of at most `threads` times CHUNK_BYTES.

    The pieces are those of `into`, which has `size_bytes`; without it each takes the place of the
    one before. Raises OSError for what cannot be read.
    """
    step = CHUNK_BYTES * threads
    scratch = memoryview(bytearray(min(step, size_bytes))) if into is None else into
    pool = Pool(threads) if threads > 1 else None
    with pool or nullcontext():
        for begin in range(first, size_bytes, step):
            count = min(step, size_bytes - begin)
            piece = scratch[:count] if into is None else into[begin : begin + count]
            if pool is None:
                read_into(descriptor, piece, begin)
            else:
                parts = range(0, count, CHUNK_BYTES)
                list(
                    pool.map(
                        read_into,
                        (descriptor for _ in parts),
                        (piece[at : at + CHUNK_BYTES] for at in parts),
                        (begin + at for at in parts),
                    )
                )
            yield piece


def read_scattered(
    descriptor: int, size_bytes: int, places: Iterable[tuple[int, memoryview]]
) -> Iterator[memoryview]:
    """All bytes in order, each read once: those of the places into their memory, the rest passing.

    A place is a position and the memory for what lies there; no two overlap. Pieces have at most
    CHUNK_BYTES. Raises OSError for what cannot be read.
    """
    scratch = memoryview(bytearray(min(CHUNK_BYTES, size_bytes)))

    def passing(begin: int, end: int) -> Iterator[memoryview]:
        for at in range(begin, end, CHUNK_BYTES):
            piece = scratch[: min(CHUNK_BYTES, end - at)]
            read_into(descriptor, piece, at)
            yield piece

    position = 0
    for begin, target in sorted(places, key=lambda place: place[0]):
        yield from passing(position, begin)
        for at in range(0, len(target), CHUNK_BYTES):
            piece = target[at : at + CHUNK_BYTES]
            read_into(descriptor, piece, begin + at)
            yield piece
        position = begin + len(target)
    yield from passing(position, size_bytes)


def _read_some(descriptor: int, target: memoryview, position: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [target], position)
    data = _read_at(descriptor, len(target), position)
    target[: len(data)] = data
    return len(data)


def _read_at(descriptor: int, count: int, position: int) -> bytes:
    if _POSITIONED:
        return os.pread(descriptor, count, position)
    os.lseek(descriptor, position, os.SEEK_SET)
    return os.read(descriptor, count)


class DescriptorStream(io.RawIOBase):
    """Reads a descriptor at its own position: the descriptor itself stays where it is.

    `parsed`, where it is given, gets a position and its bytes for all that is read.
    """

    def __init__(self, descriptor: int, parsed: Parsed | None = None) -> None:
        self._file = descriptor
        self._parsed = parsed
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        if count < 0:
            count = max(0, os.fstat(self._file).st_size - self._position)
        # A torch file has a header for each of its thousands of tensors: what is there is called.
        data = (
            os.pread(self._file, count, self._position)
            if _POSITIONED
            else _read_at(self._file, count, self._position)
        )
        begin = self._position
        self._position += len(data)
        if len(data) != count and data:
            data += self._rest(count - len(data))
        if self._parsed is not None:
            self._parsed.append((begin, data))
        return data

    def read_each(self, begins: Sequence[int], count: int) -> bytes:
        """So many bytes from each of these places on, joined; fewer when the file is shorter."""
        if not _POSITIONED:
            pieces = [_read_at(self._file, count, begin) for begin in begins]
        else:
            pieces = list(map(os.pread, repeat(self._file), repeat(count), begins))
        if self._parsed is not None:
            self._parsed += zip(begins, pieces, strict=True)
        return b"".join(pieces)

    def _rest(self, count: int) -> bytes:
        """What a signal or a mount with small reads left out, up to the end."""
        data = bytearray()
        while len(data) < count:
            more = _read_at(self._file, count - len(data), self._position)
            if not more:
                break
            self._position += len(more)
            data += more
        return bytes(data)

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        count = _read_some(self._file, target, self._position)
        if self._parsed is not None:
            self._parsed.append((self._position, bytes(target[:count])))
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence:
            end = whence == io.SEEK_END
            offset = max(0, offset + (os.fstat(self._file).st_size if end else self._position))
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position
