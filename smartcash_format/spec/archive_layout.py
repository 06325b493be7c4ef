"""The bytes around the records of a torch file: a zip archive whose entries are stored.

As torch's own writer lays them out (caffe2/serialize/inline_container.cc): one folder, a record's
data on a multiple of 64 bytes by padding in the local header's extra field, ZIP64 where sizes or
offsets need it. Everything but the checksums is known before a byte of data is read, so headers
can be written beside the data.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

FOLDER: Final = "archive"
PROGRAM: Final = "data.pkl"
BYTEORDER: Final = "byteorder"
VERSION: Final = "version"
STORAGE_PREFIX: Final = "data/"
# What torch writes since 1.6; its readers refuse an archive without it.
VERSION_RECORD: Final = b"3\n"
ALIGNMENT: Final = 64

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR64 = struct.Struct("<4sIQI")
_FULL32: Final = 0xFFFFFFFF
_FULL16: Final = 0xFFFF
# 1980-01-01, the first date zip knows: the same state gives the same bytes.
_DATE: Final = 0x0021
_PLAIN: Final = 20
_ZIP64: Final = 45
_PADDING_TAG: Final = b"FB"


class Placed(NamedTuple):
    """A record and where it lies: `offset` of its local header, `start` of its data."""

    # A tuple, because a state makes thousands and a frozen dataclass costs four times as much.

    name: bytes
    size_bytes: int
    offset: int
    start: int

    @property
    def end(self) -> int:
        return self.start + self.size_bytes

    def local_header(self, crc: int) -> bytes:
        """The bytes from `offset` to `start`."""
        large = self.size_bytes >= _FULL32
        shown = _FULL32 if large else self.size_bytes
        extra = _zip64(self.size_bytes, self.size_bytes) if large else b""
        padding = self.start - self.offset - _LOCAL.size - len(self.name) - len(extra)
        extra += _PADDING_TAG + struct.pack("<H", padding - 4) + b"Z" * (padding - 4)
        need = _ZIP64 if large else _PLAIN
        return (
            _LOCAL.pack(
                b"PK\x03\x04", need, 0, 0, 0, _DATE, crc, shown, shown, len(self.name), len(extra)
            )
            + self.name
            + extra
        )

    def central_header(self, crc: int) -> bytes:
        """The record's entry in the central directory."""
        large = self.size_bytes >= _FULL32
        far = self.offset >= _FULL32
        numbers = [self.size_bytes] * 2 if large else []
        numbers += [self.offset] if far else []
        extra = _zip64(*numbers) if numbers else b""
        shown = _FULL32 if large else self.size_bytes
        need = _ZIP64 if numbers else _PLAIN
        return (
            _CENTRAL.pack(
                b"PK\x01\x02", need, need, 0, 0, 0, _DATE, crc, shown, shown, len(self.name),
                len(extra), 0, 0, 0, 0, _FULL32 if far else self.offset,
            )
            + self.name
            + extra
        )  # fmt: skip


def place(records: Sequence[tuple[str, int]]) -> list[Placed]:
    """Where each record (name inside the folder, size in bytes) lies, in this order."""
    placed = []
    offset = 0
    for name, size_bytes in records:
        full = f"{FOLDER}/{name}".encode()
        # Four bytes at least for the padding's own tag and length.
        bare = offset + _LOCAL.size + len(full) + 4 + (20 if size_bytes >= _FULL32 else 0)
        start = -(-bare // ALIGNMENT) * ALIGNMENT
        placed.append(Placed(full, size_bytes, offset, start))
        offset = start + size_bytes
    return placed


def tail(placed: Sequence[Placed], crcs: Sequence[int]) -> bytes:
    """The central directory and the end records, which follow the last record's data."""
    directory = b"".join(
        record.central_header(crc) for record, crc in zip(placed, crcs, strict=True)
    )
    return directory + _end(len(placed), placed[-1].end if placed else 0, len(directory))


def tail_size(placed: Sequence[Placed]) -> int:
    """How many bytes `tail` will have."""
    directory_bytes = sum(
        _CENTRAL.size + len(record.name)
        if record.offset < _FULL32 and record.size_bytes < _FULL32
        else len(record.central_header(0))
        for record in placed
    )
    return directory_bytes + len(
        _end(len(placed), placed[-1].end if placed else 0, directory_bytes)
    )


def _end(count: int, start: int, directory_bytes: int) -> bytes:
    """The end records of a directory of so many entries, which begins at `start`."""
    end = b""
    if count >= _FULL16 or start >= _FULL32 or directory_bytes >= _FULL32:
        end = _END64.pack(
            b"PK\x06\x06", 44, _ZIP64, _ZIP64, 0, 0, count, count, directory_bytes, start
        )
        end += _LOCATOR64.pack(b"PK\x06\x07", 0, start + directory_bytes, 1)
    shown = min(count, _FULL16)
    return end + _END.pack(
        b"PK\x05\x06", 0, 0, shown, shown, min(directory_bytes, _FULL32), min(start, _FULL32), 0
    )


def _zip64(*numbers: int) -> bytes:
    return struct.pack(f"<HH{len(numbers)}Q", 1, 8 * len(numbers), *numbers)
