"""One pass over the bytes: every file is hashed while its bytes are in memory, beside the writing.

For each file one thread reads the sources in turn and writes large pieces at their place; a second
one hashes them, measures them and writes what depends on it (checksums, small pieces). Several
files go in parallel. blake3, zlib and the writes release the GIL.
"""

from __future__ import annotations

import os
import queue
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final

from smartcash_format.disk.placing import start_writeback, write_at
from smartcash_format.disk.publish import Stage
from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec import archive_layout, digest
from smartcash_format.spec.header import encode_header

# Below this a system call costs more than the copy that avoids it.
SMALL_BYTES: Final = 1 << 20
# What may wait between the two threads of a file: bounds memory when reading makes copies.
AHEAD_BYTES: Final = 16 << 20
# More files at once only make a disk seek.
FILES_AT_ONCE: Final = 4


Buffer = Any
"""A contiguous buffer: bytes, bytearray, memoryview, a ctypes array."""
Statistics = Mapping[str, int | float]
Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all), from any thread, one call at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSource:
    """A tensor to be written: its raw little-endian bytes come when its turn does.

    `read` is called once, if there is a byte to read, on a worker thread, and gives exactly
    `size_bytes` contiguous bytes; `measure` is called once, on a worker thread, and gives the
    statistics of a floating tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    read: Callable[[], Buffer]
    measure: Callable[[], Statistics] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSource:
    """A storage of a torch file: record `data/<key>`."""

    key: str
    size_bytes: int
    read: Callable[[], Buffer]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenTensor:
    """What the writing of a tensor found: the digest of its bytes, and its statistics."""

    digest: str
    statistics: Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFile:
    """What the stage holds now; `tensors` by name for a weights file."""

    name: str
    size_bytes: int
    digest: str
    tensors: Mapping[str, WrittenTensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A stretch of a file: `head(crc of the data)` at `offset`, then the data at `start`."""

    offset: int
    start: int
    size_bytes: int
    read: Callable[[], Buffer]
    head: Callable[[int], bytes] | None = None
    measure: Callable[[], Statistics] | None = None
    tensor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """All of a file: pieces without gaps in order, then a tail made from their checksums."""

    name: str
    pieces: Sequence[_Piece]
    tail: Callable[[list[int]], bytes] | None
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsPart:
    """A safetensors file, its header and order as safetensors writes them."""

    name: str
    tensors: Sequence[TensorSource]

    def plan(self) -> _Plan:
        by_name = {tensor.name: tensor for tensor in self.tensors}
        data, header = encode_header([(t.name, t.dtype, t.shape) for t in self.tensors])
        pieces = [_blob(0, data)]
        for name, info in header.tensors.items():
            source = by_name[name]
            start = len(data) + info.begin
            pieces.append(
                _Piece(
                    offset=start, start=start, size_bytes=info.end - info.begin, read=source.read,
                    measure=source.measure, tensor=name,
                )
            )  # fmt: skip
        return _Plan(name=self.name, pieces=pieces, tail=None, size_bytes=header.size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivePart:
    """A torch file: the pickle program and the storages that it names."""

    name: str
    program: bytes
    storages: Sequence[StorageSource]

    def plan(self) -> _Plan:
        fixed = {
            archive_layout.PROGRAM: self.program,
            archive_layout.BYTEORDER: b"little",
            archive_layout.VERSION: archive_layout.VERSION_RECORD,
        }
        reads: list[Callable[[], Buffer]] = [_constant(data) for data in fixed.values()]
        records = [(name, len(data)) for name, data in fixed.items()]
        for storage in self.storages:
            records.append((f"{archive_layout.STORAGE_PREFIX}{storage.key}", storage.size_bytes))
            reads.append(storage.read)
        placed = archive_layout.place(records)
        pieces = [
            _Piece(
                offset=p.offset, start=p.start, size_bytes=p.size_bytes, read=r, head=p.local_header
            )
            for p, r in zip(placed, reads, strict=True)
        ]
        return _Plan(
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

    def plan(self) -> _Plan:
        return _Plan(
            name=self.name, pieces=[_blob(0, self.data)], tail=None, size_bytes=len(self.data)
        )


Part = WeightsPart | ArchivePart | BlobPart


def size_of(parts: Iterable[Part]) -> int:
    """The exact number of bytes that these parts will take, known before any is read."""
    return sum(part.plan().size_bytes for part in parts)


def write_parts(
    stage: Stage, parts: Sequence[Part], *, progress: Progress | None = None
) -> list[WrittenFile]:
    """Writes the parts into the stage, in parallel; what was written, in this order.

    Each file is handed to the stage complete: its fsync goes on while the caller looks at what was
    written, and the stage waits for all of them before it publishes.

    The first failure stops all of them and is raised: an OSError, what a source's `read` raised, or
    UnsavableStateError for a source that changed while it was saved.
    """
    plans = [part.plan() for part in parts]
    meter = _Meter(sum(plan.size_bytes for plan in plans), progress)
    # The largest first: the longest file decides when all are done.
    order = sorted(range(len(plans)), key=lambda i: -plans[i].size_bytes)
    with ThreadPoolExecutor(min(FILES_AT_ONCE, max(1, len(plans)))) as pool:
        futures = {i: pool.submit(_write_file, stage, plans[i], meter) for i in order}
        try:
            wait(futures.values())
        except BaseException:
            meter.stop.set()
            raise
    if meter.failure is not None:
        raise meter.failure
    return [futures[i].result() for i in range(len(plans))]


class _Stopped(Exception):
    """Another file of the same save failed; that failure is the one raised."""


class _Meter:
    def __init__(self, total: int, progress: Progress | None) -> None:
        self.stop = threading.Event()
        self.failure: BaseException | None = None
        self._total = total
        self._done = 0
        self._progress = progress
        self._lock = threading.Lock()

    def add(self, size_bytes: int) -> None:
        if self.stop.is_set():
            raise _Stopped
        if self._progress is not None:
            with self._lock:
                self._done += size_bytes
                self._progress(self._done, self._total)

    def fail(self, error: BaseException) -> None:
        with self._lock:
            if self.failure is None and not isinstance(error, _Stopped):
                self.failure = error
        self.stop.set()


_Batch = list[tuple[_Piece, memoryview]]


def _write_file(stage: Stage, plan: _Plan, meter: _Meter) -> WrittenFile:
    try:
        meter.add(0)
        descriptor = stage.create(plan.name)
        try:
            written = _write_plan(descriptor, plan, meter)
        except BaseException:
            os.close(descriptor)
            raise
        stage.make_durable(descriptor)
        return written
    except BaseException as error:
        meter.fail(error)
        raise


def _write_plan(descriptor: int, plan: _Plan, meter: _Meter) -> WrittenFile:
    reader = _Hashing(descriptor, plan)
    thread = threading.Thread(target=reader.run, name=f"hash {plan.name}", daemon=True)
    thread.start()
    try:
        for batch in _batches(plan.pieces):
            reader.put(batch)
            for piece, data in batch:
                if len(data) >= SMALL_BYTES:
                    write_at(descriptor, piece.start, [data])
                    start_writeback(descriptor, piece.start, len(data))
                meter.add(len(data))
    finally:
        reader.put(None)
        thread.join()
    written = reader.result()
    meter.add(plan.size_bytes - sum(piece.size_bytes for piece in plan.pieces))
    return written


def _batches(pieces: Sequence[_Piece]) -> Iterator[_Batch]:
    batch: _Batch = []
    waiting = 0
    for piece in pieces:
        data = memoryview(piece.read()).cast("B") if piece.size_bytes else memoryview(b"")
        if len(data) != piece.size_bytes:
            where = piece.tensor or "a tensor of the state"
            raise UnsavableStateError(
                f"{where} has {len(data):,} bytes instead of {piece.size_bytes:,}: it was changed "
                "while it was saved",
                where=where,
                kind="tensor",
            )
        if batch and len(data) >= SMALL_BYTES:
            yield batch
            batch, waiting = [], 0
        batch.append((piece, data))
        waiting += len(data)
        if waiting >= SMALL_BYTES:
            yield batch
            batch, waiting = [], 0
    if batch:
        yield batch


class _Hashing:
    """The second thread of a file: digests, checksums and statistics, and what they decide."""

    def __init__(self, descriptor: int, plan: _Plan) -> None:
        self._descriptor = descriptor
        self._plan = plan
        self._queue: queue.Queue[_Batch | None] = queue.Queue()
        self._room = threading.Condition()
        self._waiting = 0
        self._file = digest.hasher()
        self._crcs: list[int] = []
        self._tensors: dict[str, WrittenTensor] = {}
        self._failure: BaseException | None = None

    def put(self, batch: _Batch | None) -> None:
        """Hands a batch over, when there is room for it or nothing else waits."""
        size = sum(len(data) for _, data in batch or ())
        with self._room:
            self._room.wait_for(
                lambda: not self._waiting or self._waiting + size <= AHEAD_BYTES or self._failure
            )
            if self._failure is not None and batch is not None:
                raise self._failure
            self._waiting += size
        self._queue.put(batch)

    def run(self) -> None:
        try:
            while (batch := self._queue.get()) is not None:
                self._take(batch)
                with self._room:
                    self._waiting -= sum(len(data) for _, data in batch)
                    self._room.notify_all()
            if self._plan.tail is not None:
                data = self._plan.tail(self._crcs)
                self._file.update(data)
                write_at(self._descriptor, self._plan.size_bytes - len(data), [data])
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            with self._room:
                self._failure = error
                self._room.notify_all()

    def result(self) -> WrittenFile:
        if self._failure is not None:
            raise self._failure
        return WrittenFile(
            name=self._plan.name,
            size_bytes=self._plan.size_bytes,
            digest=digest.named(self._file),
            tensors=self._tensors,
        )

    def _take(self, batch: _Batch) -> None:
        small: list[bytes | memoryview] = []
        for piece, data in batch:
            head = b""
            if piece.head is not None:
                crc = zlib.crc32(data)
                self._crcs.append(crc)
                head = piece.head(crc)
                self._file.update(head)
            self._file.update(data)
            if piece.tensor is not None:
                statistics = piece.measure() if piece.measure is not None else {}
                self._tensors[piece.tensor] = WrittenTensor(
                    digest=digest.digest_of(data), statistics=statistics
                )
            if len(data) >= SMALL_BYTES:
                if head:
                    write_at(self._descriptor, piece.offset, [head])
            else:
                small += [head, data] if head else [data]
        if small:
            write_at(self._descriptor, batch[0][0].offset, small)


def _blob(offset: int, data: bytes) -> _Piece:
    return _Piece(offset=offset, start=offset, size_bytes=len(data), read=_constant(data))


def _constant(data: bytes) -> Callable[[], bytes]:
    return lambda: data
