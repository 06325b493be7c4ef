"""What the headers of a zip archive look like, for those who read them one by one or by columns."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

# `common` are version, flags, method, time and date, which both of an entry's headers have.
LOCAL: Final = struct.Struct("<4s10s3L2H")
CENTRAL: Final = struct.Struct("<4s2x10s3LH6s6xL")
EXTRA: Final = struct.Struct("<2H")
LOCAL_MARK: Final = b"PK\x03\x04"
CENTRAL_MARK: Final = b"PK\x01\x02"
# What a field of 16 or 32 bits holds when the number stands elsewhere in 64.
U16: Final = 0xFFFF
U32: Final = 0xFFFFFFFF
# The extra field with torch's filler.
FILLER: Final = 0x4246
# Flags: bit 3 checksum and sizes follow the data in a descriptor, bit 11 UTF-8.
DESCRIBED: Final = 1 << 3
# Flags and method of a stored entry, with either of these bits.
STORED: Final = frozenset(struct.pack("<2H", bits, 0) for bits in (0, 1 << 3, 1 << 11, 0x808))
# Torch names its folder after the file, and file systems stop at 255.
NAME_BYTES: Final = 300
# The lengths of an extra field and of a comment, and the number of a volume.
NO_LENGTHS: Final = bytes(6)


class Record(NamedTuple):
    """Where the data of an entry lies in the file."""

    begin: int
    size_bytes: int


class Directory(NamedTuple):
    """The directory of an archive: its bytes, how many entries it has, where in the file it is."""

    data: bytes
    entries: int
    begin: int


class Rows(NamedTuple):
    """Entries in a row whose headers have one length each, in the directory and beside the data."""

    # Where in the directory they begin, and where each one's own header is in the file.
    at: int
    offsets: Sequence[int]
    step: int
    own_step: int
    heads: bytes


class Records(NamedTuple):
    """Every entry by its name, in the order of the file; `rows` where they were read by columns."""

    by_name: Mapping[bytes, Record]
    rows: Sequence[Rows] = ()
