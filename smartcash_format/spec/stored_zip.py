"""A zip archive of stored entries: which bytes of the file are which entry, without a doubt.

Zip readers disagree wherever an archive says a thing twice: in its directory at the end and in
each entry's own header. Here both must say the same, and every byte of the file belongs to exactly
one entry or to the directory; then every reader sees what was checked. As torch 2.10 to 2.13 and
archive_layout write them, ZIP64 included: no compression, encryption, comment or second volume,
and no gap but the filler that aligns a storage.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import BinaryIO, Final

from smartcash_format.spec import limits
from smartcash_format.spec.refusal import Refused, shown
from smartcash_format.spec.zip_columns import read_aligned
from smartcash_format.spec.zip_headers import (
    CENTRAL,
    CENTRAL_MARK,
    DESCRIBED,
    EXTRA,
    FILLER,
    LOCAL,
    LOCAL_MARK,
    NAME_BYTES,
    NO_LENGTHS,
    STORED,
    U16,
    U32,
    Directory,
    Record,
    Records,
)

__all__ = ["Record", "read_at", "read_directory", "read_records"]

# Below it a look at each is faster than one at their columns.
_FEWEST: Final = 32
# One entry a storage, and the few fixed ones.
_ENTRIES: Final = limits.TENSORS + 8
# A storage's directory entry takes about 70 bytes.
_DIRECTORY_BYTES: Final = 16 << 20

_LENGTHS: Final = struct.Struct("<3H")
_END: Final = struct.Struct("<4s4H2LH")
_END_64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR: Final = struct.Struct("<4sLQL")
_DESCRIPTOR: Final = struct.Struct("<4s3L")
_DESCRIPTOR_64: Final = struct.Struct("<4sL2Q")
_DESCRIPTOR_MARK: Final = b"PK\x07\x08"
_END_MARK: Final = b"PK\x05\x06"
_END_64_MARK: Final = b"PK\x06\x06"
_LOCATOR_MARK: Final = b"PK\x06\x07"
_END_BYTES: Final = _END_64.size + _LOCATOR.size + _END.size
# The extra field with the sizes in 64 bits.
_EXTRA_64: Final = 0x0001
# Flag bit 0: encrypted.
_ENCRYPTED: Final = 1 << 0
_COPY_AGAIN: Final = "copy the file again from its source, or use another checkpoint"
# An entry of the directory: name, common, crc, size, offset.
_Entry = tuple[bytes, bytes, int, int, int]


def read_directory(stream: BinaryIO, size_bytes: int) -> Directory:
    """The directory of an archive, as bytes. Raises Refused."""
    count, begin, end = _directory(stream, size_bytes)
    return Directory(read_at(stream, begin, end - begin), count, begin)


def read_records(stream: BinaryIO, directory: Directory) -> Records:
    """Name and place of every entry, in the order of the file.

    Reads the entries' headers, never their data. Raises Refused.
    """
    data, count, begin = directory
    if count >= _FEWEST and (records := read_aligned(stream, directory)) is not None:
        return records
    return Records(_placed(stream, _entries(data, count), begin))


def read_at(stream: BinaryIO, begin: int, count: int) -> bytes:
    """So many bytes of the file. Raises Refused when it has become shorter."""
    stream.seek(begin)
    data = stream.read(count)
    if len(data) < count:
        raise Refused("archive-size", "became shorter while it was read")
    return data


def _directory(stream: BinaryIO, size_bytes: int) -> tuple[int, int, int]:
    """How many entries the directory has, where it begins and where it ends."""
    tail = read_at(stream, max(0, size_bytes - _END_BYTES), min(size_bytes, _END_BYTES))
    if len(tail) < _END.size or not tail[-_END.size :].startswith(_END_MARK):
        message = f"has no zip directory at its end: cut short at {size_bytes:,} bytes, or extended"
        raise Refused("archive-structure", message, fix=_COPY_AGAIN)
    _, disk, first_disk, here, count, length, begin, comment = _END.unpack(tail[-_END.size :])
    if comment or disk or first_disk or here != count:
        raise Refused("archive-structure", "has a comment or more than one volume")
    end = size_bytes - _END.size
    if tail[-_END.size - _LOCATOR.size :].startswith(_LOCATOR_MARK):
        end = size_bytes - _END_BYTES
        wide = _directory_64(tail, end)
        narrow = (count, length, begin)
        limit = (U16, U32, U32)
        if any(n not in (w, most) for n, w, most in zip(narrow, wide, limit, strict=True)):
            raise Refused("archive-structure", "has two ends of its directory that disagree")
        count, length, begin = wide
    if count > _ENTRIES or length > _DIRECTORY_BYTES:
        message = f"lists {count:,} entries in {length:,} bytes; at most {_ENTRIES:,} are allowed"
        raise Refused("archive-size", message)
    if begin + length != end:
        raise Refused("archive-structure", "has a directory that does not reach up to its end")
    return count, begin, end


def _directory_64(tail: bytes, end: int) -> tuple[int, int, int]:
    if len(tail) < _END_BYTES:
        raise Refused("archive-structure", "is too short for the end of its directory")
    mark, length, _, _, disk, first_disk, here, count, size, begin = _END_64.unpack_from(tail)
    _, locator_disk, offset, disks = _LOCATOR.unpack_from(tail, _END_64.size)
    # The first 12 bytes of this end do not count themselves.
    sound = mark == _END_64_MARK and length == _END_64.size - 12 and offset == end
    if not sound or disk or first_disk or locator_disk or disks != 1 or here != count:
        raise Refused("archive-structure", "has a 64-bit end of its directory that is not its own")
    return count, size, begin


def _entries(directory: bytes, count: int) -> list[_Entry]:
    entries: list[_Entry] = []
    at = 0
    while len(entries) < count:
        entry, at = _entry(directory, at)
        entries.append(entry)
        name_bytes = len(entry[0])
        alike = list(islice(_alike(directory, at, name_bytes), count - len(entries)))
        entries += alike
        at += len(alike) * _plain_entry(name_bytes).size
    if at != len(directory):
        raise Refused("archive-structure", "has more bytes in its directory than its entries take")
    return entries


def _alike(directory: bytes, at: int, name_bytes: int) -> Iterator[_Entry]:
    """The entries from `at` on as far as they are plain ones whose names have the same length.

    What _entry gives, at a third of its cost: storages are counted, so most names are as long as
    the one before.
    """
    form = _plain_entry(name_bytes)
    whole = (len(directory) - at) // form.size * form.size
    for mark, common, crc, packed, size, length, lengths, offset, name in form.iter_unpack(
        memoryview(directory)[at : at + whole]
    ):
        if (mark, length, lengths) != (CENTRAL_MARK, name_bytes, NO_LENGTHS) or packed != size:
            return
        if common[2:6] not in STORED or size == U32 or offset == U32:
            return
        yield name, common, crc, size, offset


def _entry(directory: bytes, at: int) -> tuple[_Entry, int]:
    """The entry that begins at `at`, and where it ends."""
    if at + CENTRAL.size > len(directory):
        raise Refused("archive-structure", "has fewer entries in its directory than it counts")
    mark, common, crc, packed, size, name_bytes, lengths, offset = CENTRAL.unpack_from(
        directory, at
    )
    at += CENTRAL.size + name_bytes
    name = directory[at - name_bytes : at]
    if mark != CENTRAL_MARK or name_bytes > NAME_BYTES:
        raise Refused("archive-structure", "has something else in its directory", shown(name))
    if common[2:6] not in STORED:
        raise _not_stored(name, common)
    if lengths != NO_LENGTHS or U32 in (size, packed, offset):
        extra_bytes, comment_bytes, disk = _LENGTHS.unpack(lengths)
        if comment_bytes or disk:
            raise Refused("archive-structure", "has a comment or another volume", shown(name))
        extra = directory[at : at + extra_bytes]
        size, packed, offset = _widened(name, extra, (size, packed, offset))
        at += extra_bytes
    if packed != size:
        raise Refused("archive-compressed", "has two sizes", shown(name))
    return (name, common, crc, size, offset), at


@cache
def _plain_entry(name_bytes: int) -> struct.Struct:
    """An entry of the directory with a name of so many bytes and nothing behind it."""
    return struct.Struct(f"{CENTRAL.format}{name_bytes}s")


def _not_stored(name: bytes, common: bytes) -> Refused:
    flags, method = struct.unpack_from("<2H", common, 2)
    how = f"is compressed by method {method}" if method else f"has the zip flags 0x{flags:04x}"
    if flags & _ENCRYPTED:
        how = "is encrypted"
    return Refused("archive-compressed", f"{how}; torch stores records as they are", shown(name))


def _widened(name: bytes, extra: bytes, stated: tuple[int, int, int]) -> tuple[int, int, int]:
    """Both sizes and the offset; those that 32 bits do not hold stand in the extra field."""
    count = stated.count(U32)
    if extra[:4] != EXTRA.pack(_EXTRA_64, 8 * count) or len(extra) != 4 + 8 * count:
        raise Refused("archive-structure", "has an unknown field in the directory", shown(name))
    values = iter(struct.unpack_from(f"<{count}Q", extra, 4))
    size, packed, offset = (next(values) if value == U32 else value for value in stated)
    return size, packed, offset


def _placed(stream: BinaryIO, entries: list[_Entry], end: int) -> dict[bytes, Record]:
    """Where each entry's data lies, after its own header was found to say what the directory says.

    Entry follows on entry from the first byte of the file to the directory: none overlaps another,
    and nothing lies between them.
    """
    offsets = [offset for *_, offset in entries]
    if offsets[:1] != [0]:
        raise Refused("archive-structure", "does not begin with its first entry")
    afters = [*offsets[1:], end]
    records = _one_by_one(stream, entries, afters)
    if len(records) != len(entries):
        raise Refused("archive-structure", "has two entries of one name")
    return records


def _one_by_one(stream: BinaryIO, entries: list[_Entry], afters: list[int]) -> dict[bytes, Record]:
    records: dict[bytes, Record] = {}
    descriptor, before = b"", b""
    for entry, after in zip(entries, afters, strict=True):
        name, _, _, size_bytes, offset = entry
        begin, own_descriptor = _begin_as_aligned(stream, entry, descriptor, after)
        if not begin:
            _check_descriptor(stream, descriptor, offset, before)
            begin, own_descriptor = _begin(stream, entry, after)
        records[name] = Record(begin, size_bytes)
        descriptor, before = own_descriptor, name
    _check_descriptor(stream, descriptor, afters[-1], before)
    return records


def _check_descriptor(stream: BinaryIO, descriptor: bytes, end: int, name: bytes) -> None:
    if descriptor and read_at(stream, end - len(descriptor), len(descriptor)) != descriptor:
        raise _disagrees(name)


def _begin_as_aligned(
    stream: BinaryIO, entry: _Entry, before: bytes, after: int
) -> tuple[int, bytes]:
    """What _begin gives, at a third of its cost, for an entry with filler alone; else (0, b"").

    Where the next entry begins tells how long the filler is, and so every byte of the header. It
    is read together with `before`, the descriptor of the entry before.
    """
    name, common, crc, size_bytes, offset = entry
    if size_bytes >= U32 or offset >= U32:
        return 0, b""
    form, name_bytes = _aligned(len(name)), len(name)
    begin = after - size_bytes
    described = common[2] & DESCRIBED
    if described:
        begin -= _DESCRIPTOR.size
    extra = begin - offset - LOCAL.size - name_bytes
    filler = extra - EXTRA.size
    if filler < 0 or extra > U16:
        return 0, b""
    if described:
        descriptor = _DESCRIPTOR.pack(_DESCRIPTOR_MARK, crc, size_bytes, size_bytes)
        head = form.pack(LOCAL_MARK, common, 0, 0, 0, name_bytes, extra, name, FILLER, filler)
    else:
        descriptor = b""
        head = form.pack(
            LOCAL_MARK, common, crc, size_bytes, size_bytes, name_bytes, extra, name, FILLER,
            filler,
        )  # fmt: skip
    due = before + head
    stream.seek(offset - len(before))
    return (begin, descriptor) if stream.read(len(due)) == due else (0, b"")


@cache
def _aligned(name_bytes: int) -> struct.Struct:
    """A header with a name of so many bytes and filler, up to the filler's own content."""
    return struct.Struct(f"{LOCAL.format}{name_bytes}s2H")


def _begin(stream: BinaryIO, entry: _Entry, after: int) -> tuple[int, bytes]:
    """Where an entry's data begins, and the descriptor that must follow the data up to `after`."""
    name, common, crc, size_bytes, offset = entry
    described = bool(common[2] & DESCRIBED)
    head = read_at(stream, offset, LOCAL.size)
    mark, own_common, own_crc, packed, size, name_bytes, extra_bytes = LOCAL.unpack(head)
    rest = read_at(stream, offset + len(head), name_bytes + extra_bytes)
    # But for the version needed: 45 where a header has 64-bit numbers, and one of the two may.
    if (mark, own_common[2:], rest[:name_bytes]) != (LOCAL_MARK, common[2:], name):
        raise _disagrees(name)
    wide_values = _wide_values(size_bytes, offset, described=described)
    wide = _is_wide(rest[name_bytes:], name, wide_values)
    if size_bytes >= U32 and not wide:
        raise _disagrees(name)
    due, descriptor = (crc, size_bytes, size_bytes), b""
    if described:
        form = _DESCRIPTOR_64 if wide else _DESCRIPTOR
        descriptor, due = form.pack(_DESCRIPTOR_MARK, *due), (0, 0, 0)
    elif wide:
        due = crc, U32, U32
    if (own_crc, packed, size) != due:
        raise _disagrees(name)
    begin = offset + len(head) + len(rest)
    if begin + size_bytes + len(descriptor) != after:
        message = f"overlaps what is due at byte {after:,}, or leaves a gap before it"
        raise Refused("archive-structure", message, shown(name))
    return begin, descriptor


def _is_wide(extra: bytes, name: bytes, values: tuple[bytes, ...]) -> bool:
    """Whether an entry's own header has the field for 64 bits; all else must be torch's filler."""
    wide, at = False, 0
    while at < len(extra):
        kind, length = EXTRA.unpack_from(extra.ljust(at + EXTRA.size, b"\0"), at)
        value = extra[at + EXTRA.size : at + EXTRA.size + length]
        at += EXTRA.size + length
        if kind == _EXTRA_64 and not wide and value in values:
            wide = True
        elif kind != FILLER or at > len(extra):
            raise _disagrees(name)
    return wide


def _wide_values(size_bytes: int, offset: int, *, described: bool) -> tuple[bytes, ...]:
    """What the 64-bit field may hold: sizes where 32 bits fail.

    Torch's writer adds the offset, and does not know the second size yet when it writes the field.
    """
    far = struct.pack("<Q", offset) if offset >= U32 else b""
    if size_bytes < U32:
        return (far,) if far and described else ()
    both = struct.pack("<2Q", size_bytes, size_bytes)
    return (struct.pack("<2Q", size_bytes, 0) + far, both + far) if described else (both,)


def _disagrees(name: bytes) -> Refused:
    message = "is described differently by its own header and by the directory"
    return Refused("archive-structure", message, shown(name))
