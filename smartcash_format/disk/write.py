"""One pass over the bytes: every file is hashed while its bytes are in memory, beside the writing.

For each file one thread reads the sources in turn and writes large pieces at their place; a second
one hashes the file and writes what depends on it (checksums, small pieces); of a weights file a
third one takes each tensor's digest and statistics. Several files go in parallel. blake3, zlib and
the writes release the GIL.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final

from smartcash_format.disk.parts import Measure, Part, Piece, Plan, Statistics, TensorSource
from smartcash_format.disk.placing import write_at
from smartcash_format.disk.publish import Stage
from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec import digest

# Below this a system call costs more than the copy that avoids it.
SMALL_BYTES: Final = 1 << 20
# What may wait between the two threads of a file: bounds memory when reading makes copies.
AHEAD_BYTES: Final = 16 << 20
# More files at once only make a disk seek.
FILES_AT_ONCE: Final = 4


Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all), from any thread, one call at a time."""


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


_Batch = list[tuple[Piece, memoryview]]
_EMPTY: Final = memoryview(b"")


def _write_file(stage: Stage, plan: Plan, meter: _Meter) -> WrittenFile:
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


def _write_plan(descriptor: int, plan: Plan, meter: _Meter) -> WrittenFile:
    hashing = _Hashing(descriptor, plan)
    tensors = _Tensors()
    workers = [_Worker(hashing.take, f"hash {plan.name}")]
    if plan.tensors:
        workers.append(_Worker(tensors.take, f"measure {plan.name}"))
    try:
        for batch in _batches(plan.pieces):
            for worker in workers:
                worker.put(batch)
            for piece, data in batch:
                if len(data) >= SMALL_BYTES:
                    write_at(descriptor, piece.start, [data])
            meter.add(sum(len(data) for _, data in batch))
    finally:
        for worker in workers:
            worker.stop()
    for worker in workers:
        worker.check()
    written = WrittenFile(
        name=plan.name,
        size_bytes=plan.size_bytes,
        digest=hashing.finish(),
        tensors=tensors.written,
    )
    meter.add(plan.size_bytes - sum(piece.size_bytes for piece in plan.pieces))
    return written


def _batches(pieces: Sequence[Piece]) -> Iterator[_Batch]:
    """Large pieces alone, small ones together; never a large one with others."""
    batch: _Batch = []
    waiting = 0
    for piece in pieces:
        data = memoryview(piece.source.read()).cast("B") if piece.size_bytes else _EMPTY
        size = len(data)
        if size != piece.size_bytes:
            where = piece.source.name if isinstance(piece.source, TensorSource) else "a tensor"
            raise UnsavableStateError(
                f"{where} has {size:,} bytes instead of {piece.size_bytes:,}: it was changed "
                "while it was saved",
                where=where,
                kind="tensor",
            )
        if batch and size >= SMALL_BYTES:
            yield batch
            batch, waiting = [], 0
        batch.append((piece, data))
        waiting += size
        if waiting >= SMALL_BYTES:
            yield batch
            batch, waiting = [], 0
    if batch:
        yield batch


class _Worker:
    """A thread that takes batches in order, with a bound on what waits for it."""

    def __init__(self, take: Callable[[_Batch], None], name: str) -> None:
        self._take = take
        self._queue: deque[_Batch | None] = deque()
        self._changed = threading.Condition()
        self._waiting = 0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, batch: _Batch) -> None:
        """Hands a batch over, when there is room for it or nothing else waits."""
        size = sum(len(data) for _, data in batch)
        with self._changed:
            self._changed.wait_for(
                lambda: not self._waiting or self._waiting + size <= AHEAD_BYTES or self._failure
            )
            if self._failure is not None:
                raise self._failure
            self._waiting += size
            self._queue.append(batch)
            self._changed.notify_all()

    def stop(self) -> None:
        """Returns when all that was handed over is done, or the worker has failed."""
        with self._changed:
            self._queue.append(None)
            self._changed.notify_all()
        self._thread.join()

    def check(self) -> None:
        """Raises what the worker failed with."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._take(batch)
                with self._changed:
                    self._waiting -= sum(len(data) for _, data in batch)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _next(self) -> _Batch | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue)
            return self._queue.popleft()


class _Hashing:
    """The digest and the checksums of a file, and the writing of what they decide."""

    def __init__(self, descriptor: int, plan: Plan) -> None:
        self._descriptor = descriptor
        self._plan = plan
        self._file = digest.hasher()
        self._crcs: list[int] = []

    def take(self, batch: _Batch) -> None:
        (piece, data), many = batch[0], len(batch) > 1
        if not many and len(data) >= SMALL_BYTES:
            if head := self._head(piece, data):
                self._file.update(head)
                write_at(self._descriptor, piece.offset, [head])
            self._file.update(data)
            return
        small = b"".join(part for each in batch for part in (self._head(*each), each[1]))
        write_at(self._descriptor, piece.offset, [small])
        self._file.update(small)

    def finish(self) -> str:
        """Writes the tail; the digest of the file."""
        if self._plan.tail is not None:
            data = self._plan.tail(self._crcs)
            self._file.update(data)
            write_at(self._descriptor, self._plan.size_bytes - len(data), [data])
        return digest.named(self._file)

    def _head(self, piece: Piece, data: memoryview) -> bytes:
        if piece.head is None:
            return b""
        crc = zlib.crc32(data)
        self._crcs.append(crc)
        return piece.head(crc)


class _Tensors:
    """The digest and the statistics of every tensor of a weights file."""

    def __init__(self) -> None:
        self.written: dict[str, WrittenTensor] = {}

    def take(self, batch: _Batch) -> None:
        alike: dict[Measure | None, list[tuple[str, memoryview]]] = {}
        for piece, data in batch:
            if isinstance(source := piece.source, TensorSource):
                alike.setdefault(source.measure, []).append((source.name, data))
        for measure, named in alike.items():
            found = measure([data for _, data in named]) if measure else [{}] * len(named)
            for (name, data), statistics in zip(named, found, strict=True):
                self.written[name] = WrittenTensor(
                    digest=digest.digest_of(data), statistics=statistics
                )
