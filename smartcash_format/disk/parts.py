"""What a file of a checkpoint is made of: sources that are read when their turn comes, laid out.

A part says what is to be written; its plan says where in the file each piece lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

from smartcash_format.spec import archive_layout
from smartcash_format.spec.header import encode_header

Buffer = Any
"""A contiguous buffer: bytes, bytearray, memoryview, a ctypes array."""
Statistics = Mapping[str, int | float]
Measure = Callable[[Buffer, Sequence[int]], Sequence[Statistics]]
"""The statistics of several tensors whose raw bytes lie one after the other, by their sizes."""


class TensorSource(NamedTuple):
    """A tensor to be written: its raw little-endian bytes come when its turn does.

    `read` is called on a worker thread, if there is a byte to read, and gives exactly `size_bytes`
    contiguous bytes; an incremental save may call it twice. `copies` says that it makes a copy of
    them; `address` is where they lie for as long as the source is there, 0 where that is not known.
    `measure` is for floating tensors: it is called on a worker thread, with the bytes of many
    tensors that have the same function at once.
    """

    # A tuple, because a save makes thousands and a frozen dataclass costs four times as much.

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    read: Callable[[], Buffer]
    copies: bool = False
    measure: Measure | None = None
    address: int = 0


class StorageSource(NamedTuple):
    """A storage of a torch file: record `data/<key>`; the rest as of a tensor."""

    key: str
    size_bytes: int
    read: Callable[[], Buffer]
    copies: bool = False
    address: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """Bytes that are at hand."""

    data: bytes
    copies: ClassVar[bool] = False
    address: ClassVar[int] = 0

    def read(self) -> bytes:
        return self.data


Source = TensorSource | StorageSource | Constant


class Piece(NamedTuple):
    """A stretch of a file: `head(crc of the data)` at `offset`, then the data at `start`."""

    offset: int
    start: int
    size_bytes: int
    source: Source
    head: Callable[[int], bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All of a file: pieces without gaps in order, then a tail made from their checksums.

    `tensors` says that the pieces of a TensorSource are to be digested and measured. Plans that
    differ in nothing but their sources' bytes have the same `layout`. A plan is a part that has
    been laid out already.
    """

    name: str
    pieces: Sequence[Piece]
    tail: Callable[[list[int]], bytes] | None
    size_bytes: int
    tensors: bool = False
    layout: object = field(default_factory=object)

    def plan(self) -> Plan:
        return self

    def with_sources(self, sources: Iterable[Source]) -> Plan:
        """The same layout, filled with others of the same kind and size."""
        pieces = [
            Piece(offset, start, size_bytes, source, head)
            for (offset, start, size_bytes, _, head), source in zip(
                self.pieces, sources, strict=True
            )
        ]
        return replace(self, pieces=pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsPart:
    """A safetensors file, its header and order as safetensors writes them."""

    name: str
    tensors: Sequence[TensorSource]

    def plan(self) -> Plan:
        by_name = {tensor.name: tensor for tensor in self.tensors}
        data, header = encode_header([(t.name, t.dtype, t.shape) for t in self.tensors])
        start = len(data)
        pieces = [_blob(data)]
        pieces += [
            Piece(start + info.begin, start + info.begin, info.end - info.begin, by_name[name])
            for name, info in header.tensors.items()
        ]
        return Plan(
            name=self.name, pieces=pieces, tail=None, size_bytes=header.size_bytes, tensors=True
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivePart:
    """A torch file: the pickle program and the storages that it names."""

    name: str
    program: bytes
    storages: Sequence[StorageSource]

    def plan(self) -> Plan:
        fixed = {
            archive_layout.PROGRAM: self.program,
            archive_layout.BYTEORDER: b"little",
            archive_layout.VERSION: archive_layout.VERSION_RECORD,
        }
        sources: list[Source] = [Constant(data=data) for data in fixed.values()]
        records = [(name, len(data)) for name, data in fixed.items()]
        for storage in self.storages:
            records.append((f"{archive_layout.STORAGE_PREFIX}{storage.key}", storage.size_bytes))
            sources.append(storage)
        placed = archive_layout.place(records)
        pieces = [
            Piece(p.offset, p.start, p.size_bytes, source, p.local_header)
            for p, source in zip(placed, sources, strict=True)
        ]
        return Plan(
            name=self.name,
            pieces=pieces,
            tail=lambda crcs: archive_layout.tail(placed, crcs),
            size_bytes=placed[-1].end + archive_layout.tail_size(placed),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobPart:
    """A small file whose bytes are at hand."""

    name: str
    data: bytes

    def plan(self) -> Plan:
        return Plan(name=self.name, pieces=[_blob(self.data)], tail=None, size_bytes=len(self.data))


Part = WeightsPart | ArchivePart | BlobPart | Plan


def plan_of(part: Part) -> Plan:
    """The part laid out."""
    return part.plan()


def size_of(parts: Iterable[Part]) -> int:
    """The exact number of bytes that these parts will take, known before any is read."""
    return sum(part.plan().size_bytes for part in parts)


def _blob(data: bytes) -> Piece:
    return Piece(0, 0, len(data), Constant(data=data))
