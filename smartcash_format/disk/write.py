"""One pass over the bytes: every file is hashed while its bytes are in memory, beside the writing.

For each file one thread reads the sources in turn and writes them; a second one hashes the file and
writes what depends on checksums; of a weights file a third one takes each tensor's digest and
statistics. Large pieces go as they are, small ones many at a time. Several files go in parallel.
blake3, zlib and the writes release the GIL.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, NamedTuple

from smartcash_format.disk.batches import COPIED_BYTES, Allowance, Batch, Worker, groups_of
from smartcash_format.disk.hints import reserve, start_writing
from smartcash_format.disk.parts import Measure, Part, Piece, Plan, Statistics, TensorSource
from smartcash_format.disk.placing import write_at
from smartcash_format.disk.pool import Pool
from smartcash_format.disk.publish import Stage
from smartcash_format.spec import digest
from smartcash_format.spec.watching import Progress, watched

# A file up to this size is written and hashed by one thread: what is hashed of it takes a
# millisecond, and threads that handle many small tensors wait for the interpreter.
ALONE_BYTES: Final = 4 << 20
# The disk is to begin when so much of a file is there.
BEGUN_BYTES: Final = 8 << 20
# More files at once only make a disk seek.
FILES_AT_ONCE: Final = 4


class WrittenTensor(NamedTuple):
    """What the writing of a tensor found: the digest of its bytes, and its statistics."""

    # A tuple, because a save makes thousands and a frozen dataclass costs three times as much.

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
    stage: Stage,
    parts: Sequence[Part],
    *,
    progress: Progress | None = None,
    wrote: Callable[[int], None] | None = None,
) -> list[WrittenFile]:
    """Writes the parts into the stage, in parallel; what was written, in this order.

    `wrote` is told the bytes of what was just read and written, from any thread.

    Each file is handed to the stage complete: its fsync goes on while the caller looks at what was
    written, and the stage waits for all of them before it publishes.

    The first failure stops all of them and is raised: an OSError, what a source's `read` raised, or
    UnsavableStateError for a source that changed while it was saved.
    """
    plans = [part.plan() for part in parts]
    with watched(f"writing {stage.final.name}", progress) as tell:
        return _write(stage, plans, _Meter(sum(plan.size_bytes for plan in plans), tell, wrote))


def _write(stage: Stage, plans: Sequence[Plan], meter: _Meter) -> list[WrittenFile]:
    if len(plans) == 1:
        try:
            return [_write_file(stage, plans[0], meter)]
        except _Stopped:
            # One of the file's own threads failed.
            assert meter.failure is not None
            raise meter.failure from None
    # The largest first: the longest file decides when all are done.
    order = sorted(range(len(plans)), key=lambda i: -plans[i].size_bytes)
    with Pool(min(FILES_AT_ONCE, max(1, len(plans)))) as pool:
        futures = {i: pool.submit(_write_file, stage, plans[i], meter) for i in order}
        try:
            wait(futures.values())
        except BaseException:
            meter.fail(_Stopped())
            raise
    if meter.failure is not None:
        raise meter.failure
    return [futures[i].result() for i in range(len(plans))]


class _Stopped(Exception):
    """Another file of the same save failed; that failure is the one raised."""


class _Meter:
    def __init__(
        self, total: int, progress: Progress | None, wrote: Callable[[int], None] | None
    ) -> None:
        self.stop = threading.Event()
        self.failure: BaseException | None = None
        self.copies = Allowance(COPIED_BYTES)
        self._total = total
        self._done = 0
        self._progress = progress
        self._wrote = wrote
        self._lock = threading.Lock()

    def add(self, size_bytes: int) -> None:
        if self.stop.is_set():
            raise _Stopped
        if self._wrote is not None:
            self._wrote(size_bytes)
        if self._progress is not None:
            with self._lock:
                self._done += size_bytes
                self._progress(self._done, self._total)

    def fail(self, error: BaseException) -> None:
        with self._lock:
            if self.failure is None and not isinstance(error, _Stopped):
                self.failure = error
        self.stop.set()
        self.copies.give_up()


def _write_file(stage: Stage, plan: Plan, meter: _Meter) -> WrittenFile:
    try:
        meter.add(0)
        descriptor = stage.create(plan.name)
        try:
            reserve(descriptor, plan.size_bytes)
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
    takes = [hashing.take, tensors.take] if plan.tensors else [hashing.take]
    begun = 0
    alone = plan.size_bytes <= ALONE_BYTES
    workers = [] if alone else _workers(takes, plan.name, meter)
    try:
        for pieces in groups_of(plan.pieces):
            batch = Batch(pieces, meter.copies, len(workers) + 1)
            for worker in workers:
                worker.put(batch)
            if batch.whole is not None:
                write_at(descriptor, pieces[0].start, [batch.whole])
            if (reached := pieces[0].offset) - begun >= BEGUN_BYTES:
                start_writing(descriptor, begun, reached - begun)
                begun = reached
            if not workers:
                for take in takes:
                    take(batch)
            batch.release()
            meter.add(sum(piece.size_bytes for piece in pieces))
    finally:
        # All of them, also where an interrupt ends the waiting for one.
        with ExitStack() as ended:
            for worker in workers:
                worker.end()
                ended.callback(worker.join)
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


def _workers(takes: Sequence[Callable[[Batch], None]], name: str, meter: _Meter) -> list[Worker]:
    """A thread for each; none where Python, at its end, or the system starts no more of them."""
    workers: list[Worker] = []
    try:
        for take in takes:
            workers.append(Worker(take, name, meter.fail))
    except BaseException as error:
        for worker in workers:
            worker.end()
            worker.join()
        if not isinstance(error, RuntimeError):
            raise
        return []
    return workers


class _Hashing:
    """The digest and the checksums of a file, and the writing of what they decide."""

    def __init__(self, descriptor: int, plan: Plan) -> None:
        self._descriptor = descriptor
        self._plan = plan
        self._file = digest.hasher()
        self._crcs: list[int] = []

    def take(self, batch: Batch) -> None:
        heads = [self._head(*pair) for pair in zip(batch.pieces, batch.data, strict=True)]
        if batch.whole is None:
            pairs = zip(heads, batch.data, strict=True)
            data = b"".join(part for pair in pairs for part in pair)
            write_at(self._descriptor, batch.pieces[0].offset, [data])
            self._file.update(data)
            return
        if heads[0]:
            write_at(self._descriptor, batch.pieces[0].offset, [heads[0]])
            self._file.update(heads[0])
        self._file.update(batch.whole)

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

    def take(self, batch: Batch) -> None:
        data, end = batch.whole, 0
        assert data is not None  # nothing stands between tensors
        for (is_tensor, measure), group in groupby(batch.pieces, _kind_of):
            pieces = list(group)
            sizes = [piece.size_bytes for piece in pieces]
            begin, end = end, end + sum(sizes)
            if not is_tensor:
                continue  # the header
            names = [p.source.name for p in pieces if isinstance(p.source, TensorSource)]
            found = measure(data[begin:end], sizes) if measure else [_NOTHING] * len(sizes)
            for name, size, statistics in zip(names, sizes, found, strict=True):
                taken = digest.digest_of(data[begin : begin + size])
                self.written[name] = WrittenTensor(taken, statistics)
                begin += size


def _kind_of(piece: Piece) -> tuple[bool, Measure | None]:
    source = piece.source
    return (True, source.measure) if isinstance(source, TensorSource) else (False, None)


_NOTHING: Final[Statistics] = {}
