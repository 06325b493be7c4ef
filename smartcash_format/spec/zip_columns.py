"""The entries of a zip archive by columns: thousands that are alike, for a few calls of C.

Storages are counted, so most names are as long as the one before. Headers of one length in a row
are a table of bytes, and a slice with a step is a column of it: two headers of each entry are
compared a byte of all entries at a time. What is checked is what `stored_zip` checks one by one;
here it is only found that all is well, never said what is not.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice, repeat
from operator import sub
from typing import BinaryIO, Final, NamedTuple

from smartcash_format.spec.zip_headers import (
    CENTRAL,
    CENTRAL_MARK,
    DESCRIBED,
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
    Rows,
)

_new: Final = tuple.__new__
# Where the parts of an entry of the directory begin, and those of its own header.
_COMMON, _FLAGS, _DATE, _PACKED, _SIZE = 6, 8, 12, 20, 24
_NAME_LENGTH, _OTHERS, _OFFSET = 28, 30, 42
_OWN_COMMON, _OWN_EXTRA = 4, 28
_CHECKSUM, _OWN_CHECKSUM, _CHECKSUM_BYTES = 16, 14, 4
# From `common` to the length of the name both say the same.
_SAME: Final = 24
# The fixed records and storages of up to six digits make a dozen. A run takes as long as dozens of
# entries that are looked at one by one, and names of letters make one each.
_RUNS: Final = 64
_FILLER: Final = FILLER.to_bytes(2, "little")


class _Run(NamedTuple):
    """Entries of the directory that follow each other and have names of one length."""

    data: bytes
    name_bytes: int
    sizes: Sequence[int]
    offsets: Sequence[int]


def read_aligned(stream: BinaryIO, directory: Directory) -> Records | None:
    """Where the data of each entry lies, if all are as this package writes them.

    None where one is not, or cannot be read, or has two names.
    """
    data, count, end = directory
    runs = _runs(data, count)
    if runs is None:
        return None
    offsets = [offset for run in runs for offset in run.offsets]
    afters = iter([*offsets[1:], end])
    records: dict[bytes, Record] = {}
    rows: list[Rows] = []
    at = 0
    for run in runs:
        heads = read_heads(stream, run.offsets, _own_step(run))
        begins = _begins(run, heads, list(islice(afters, len(run.sizes))))
        if begins is None:
            return None
        # What Record(...) gives, without a call of Python for each.
        each = map(_new, repeat(Record), zip(begins, run.sizes, strict=True))
        records.update(zip(_names(run), each, strict=True))
        rows.append(Rows(at, run.offsets, CENTRAL.size + run.name_bytes, _own_step(run), heads))
        at += len(run.data)
    return Records(records, rows) if len(records) == count and offsets[0] == 0 else None


def same_checksums(data: bytes, rows: Rows, heads: bytes) -> bool:
    """Whether the directory and the entries' own headers name the same checksum of each."""
    end = rows.at + len(rows.offsets) * rows.step
    return all(
        data[rows.at + _CHECKSUM + byte : end : rows.step]
        == heads[_OWN_CHECKSUM + byte :: rows.own_step]
        for byte in range(_CHECKSUM_BYTES)
    )


def without_checksums(data: bytes, rows: Sequence[Rows]) -> bytes:
    """The directory, with zeros where the checksums stand."""
    left = bytearray(data)
    for each in rows:
        count = len(each.offsets)
        _clear(left, each.at + _CHECKSUM, each.at + count * each.step, each.step, count)
    return bytes(left)


def heads_without_checksums(heads: bytes, own_step: int) -> bytes:
    """The entries' own headers, with zeros where the checksums stand."""
    left = bytearray(heads)
    _clear(left, _OWN_CHECKSUM, len(left), own_step, len(left) // own_step)
    return bytes(left)


def _clear(data: bytearray, begin: int, end: int, step: int, count: int) -> None:
    for byte in range(_CHECKSUM_BYTES):
        data[begin + byte : end : step] = bytes(count)


def _runs(directory: bytes, count: int) -> list[_Run] | None:
    """All entries of the directory, if they are plain ones and nothing stands behind them."""
    runs: list[_Run] = []
    at = 0
    while count:
        if len(runs) == _RUNS:
            return None
        run = _run(directory, at, count)
        if run is None:
            return None
        runs.append(run)
        count -= len(run.sizes)
        at += len(run.data)
    return runs if at == len(directory) and runs else None


def _run(directory: bytes, at: int, most: int) -> _Run | None:
    """The entry that begins at `at`, and those behind it whose names differ in a number only."""
    length = directory[at + _NAME_LENGTH : at + _OTHERS]
    name_bytes = int.from_bytes(length, "little")
    step = CENTRAL.size + name_bytes
    stem = directory[at + CENTRAL.size : at + step].rstrip(b"0123456789")

    def differs(number: int) -> bool:
        begin = at + number * step
        due = (0, CENTRAL_MARK), (_NAME_LENGTH, length), (CENTRAL.size, stem)
        return not all(directory.startswith(part, begin + place) for place, part in due)

    # Where it is another one first; that all before are alike is seen below.
    count = bisect_left(range(min(most, (len(directory) - at) // step)), True, key=differs)
    data = directory[at : at + count * step]
    method = data[_FLAGS:_DATE]
    plain = (
        count
        and _is_all(data, 0, step, CENTRAL_MARK)
        and method in STORED
        and _is_all(data, _FLAGS, step, method)
        and all(data[_PACKED + byte :: step] == data[_SIZE + byte :: step] for byte in range(4))
        and _is_all(data, _NAME_LENGTH, step, length)
        and _is_all(data, _OTHERS, step, NO_LENGTHS)
    )
    if not plain or name_bytes > NAME_BYTES:
        return None
    return _Run(data, name_bytes, _numbers(data, _SIZE, step, 4), _numbers(data, _OFFSET, step, 4))


def _names(run: _Run) -> list[bytes]:
    data, name_bytes, _, _ = run
    step = CENTRAL.size + name_bytes
    return [data[end - name_bytes : end] for end in range(step, len(data) + 1, step)]


def _own_step(run: _Run) -> int:
    return LOCAL.size + run.name_bytes + len(_FILLER) + 2


def _begins(run: _Run, heads: bytes, afters: Sequence[int]) -> list[int] | None:
    data, name_bytes, sizes, offsets = run
    step, whole, own_step = CENTRAL.size + name_bytes, LOCAL.size + name_bytes, _own_step(run)
    begins = list(map(sub, afters, sizes))
    extras = list(map(sub, map(sub, begins, offsets), repeat(whole)))
    if not len(_FILLER) + 2 <= min(extras) <= max(extras) <= U16 or max(*sizes, *offsets, 0) >= U32:
        return None
    if data[_FLAGS] & DESCRIBED or len(heads) != len(offsets) * own_step:
        return None
    same = [(_COMMON + byte, _OWN_COMMON + byte) for byte in range(_SAME)]
    same += [(CENTRAL.size + byte, LOCAL.size + byte) for byte in range(name_bytes)]
    sound = (
        _is_all(heads, 0, own_step, LOCAL_MARK)
        and all(data[one::step] == heads[other::own_step] for one, other in same)
        and _is_all(heads, whole, own_step, _FILLER)
        and _numbers(heads, _OWN_EXTRA, own_step, 2) == extras
        and _numbers(heads, own_step - 2, own_step, 2) == [extra - 4 for extra in extras]
    )
    return begins if sound else None


def read_heads(stream: BinaryIO, offsets: Sequence[int], own_step: int) -> bytes:
    """So many bytes from each of these places on, joined; fewer when the file is shorter."""
    # What reads a descriptor at a position does all in one call.
    if (together := getattr(stream, "read_each", None)) is not None:
        read: bytes = together(offsets, own_step)
        return read
    pieces = []
    for offset in offsets:
        stream.seek(offset)
        pieces.append(stream.read(own_step))
    return b"".join(pieces)


def _is_all(data: bytes, at: int, step: int, due: bytes) -> bool:
    """Whether every row of the table has these bytes at this place."""
    rows = len(data) // step
    return all(data[at + byte :: step].count(value) == rows for byte, value in enumerate(due))


def _numbers(data: bytes, at: int, step: int, width: int) -> list[int]:
    """The numbers of 2 or 4 bytes that stand at this place of each row of the table."""
    packed = bytearray(len(data) // step * width)
    for byte in range(width):
        packed[byte::width] = data[at + byte :: step]
    return list(struct.unpack(f"<{len(packed) // width}{'H' if width == 2 else 'L'}", packed))
