"""Digests of what is read: of a whole file and of the tensors in it, each byte read once.

A bad sector, or a file that becomes shorter, is an OSError of the reading thread, and not the end
of the process: what is hashed was read, or is lent by the page cache (`lending`).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import closing, suppress
from functools import partial
from typing import Final, NamedTuple

from smartcash_format.disk.pool import Pool
from smartcash_format.spec import digest
from smartcash_format.spec.watching import Progress

# More threads than this gain nothing: the memory's bandwidth is the limit.
HASHING_THREADS: Final = 8
# For less than this more threads cost more than they gain.
LARGE_BYTES: Final = 64 << 20
# In how many parts the tensors of a piece come for each thread: who has just become idle finds one.
SHARES: Final = 4
_Update = tuple[Callable[[memoryview], object], memoryview]


class Span(NamedTuple):
    """A tensor's bytes in its file, and what they are digested with."""

    begin: int
    end: int
    name: str
    algorithm: str


class Digests(NamedTuple):
    """The digest of a file, and those of the tensors in it by name."""

    of_file: str
    of_tensors: dict[str, str]


class Meter:
    """Counts bytes from several threads and says how many are done."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._done = 0
        self._lock = threading.Lock()

    def add(self, size_bytes: int) -> None:
        if self._progress is not None:
            with self._lock:
                self._done += size_bytes
                self._progress(self._done, self._total)


def cores() -> int:
    """How many threads hash at once: all cores, as nothing trains meanwhile."""
    return min(HASHING_THREADS, os.cpu_count() or 1)


def threads_for(size_bytes: int, total_bytes: int, cores: int) -> int:
    """As many of the cores as it has of the bytes, where it is large."""
    return max(1, round(cores * size_bytes / total_bytes)) if size_bytes >= LARGE_BYTES else 1


def digests_of(
    pieces: Generator[memoryview, None, None],
    algorithm: str,
    spans: Iterable[Span] = (),
    *,
    meter: Meter,
    threads: int = 1,
    pool: Pool | None = None,
) -> Digests:
    """The digests of a file that comes in pieces, and of the spans of it.

    Each piece is hashed for both before the next one is read: it is in the caches once. Threads of
    `pool` that have nothing else to do take a part of it. Spans that the pieces do not reach have
    no digest. Raises what reading the pieces raises; they are closed by then, since who catches an
    error keeps alive what was at work.
    """
    helpers = max(1, threads // 2)
    tensors = _Tensors(spans, helpers)
    running = digest.hasher(algorithm, threads=helpers if tensors.any_left() else threads)
    with closing(pieces):
        for piece in pieces:
            shares = _shares(tensors.updates(piece), SHARES * helpers)
            shares.appendleft([(running.update, piece)])
            _take_all(shares, pool, helpers)
            meter.add(len(piece))
    return Digests(digest.named(running, algorithm), tensors.digests())


def _shares(updates: list[_Update], count: int) -> deque[list[_Update]]:
    """The updates in order, in at most so many lists of about as many bytes each."""
    shares: list[list[_Update]] = [[] for _ in range(count)]
    total = sum(len(data) for _, data in updates)
    done = 0
    for update in updates:
        # What is empty may stand behind the last byte.
        shares[count * done // (total + 1)].append(update)
        done += len(update[1])
    return deque(filter(None, shares))


def _take_all(shares: deque[list[_Update]], pool: Pool | None, helpers: int) -> None:
    """Does what the shares say: here, and in threads of the pool that happen to be idle."""
    others: list[Future[None]] = []
    if pool is not None:
        # RuntimeError: it is being shut down, because another file failed.
        with suppress(RuntimeError):
            for _ in range(min(helpers, len(shares) - 1)):
                others.append(pool.submit(_take, shares))
    try:
        _take(shares)
    finally:
        for other in others:
            if not other.cancel():  # it has begun
                other.result()


def _take(shares: deque[list[_Update]]) -> None:
    while True:
        try:
            share = shares.popleft()
        except IndexError:
            return
        for take, data in share:
            take(data)


class _Tensors:
    """The digests of the tensors of a file whose bytes come in order."""

    def __init__(self, spans: Iterable[Span], threads: int) -> None:
        self._threads = threads
        self._next = deque(sorted(spans))
        self._running: list[tuple[Span, digest.Hasher]] = []
        self._done: list[tuple[Span, digest.Hasher]] = []
        self._found: dict[str, str] = {}
        self._at = 0

    def any_left(self) -> bool:
        return bool(self._next)

    def updates(self, piece: memoryview) -> list[_Update]:
        """What of the next bytes goes to which tensor's digest."""
        begin, end = self._at, self._at + len(piece)
        found: list[_Update] = []
        while self._next and self._next[0].begin < end:
            span = self._next.popleft()
            size = span.end - span.begin
            if span.end <= end and size < LARGE_BYTES:
                # In one call: most tensors are small, and a model has thousands.
                data = piece[span.begin - begin : span.end - begin]
                found.append((partial(self._digest, span), data))
            else:
                threads = self._threads if size >= LARGE_BYTES else 1
                self._running.append((span, digest.hasher(span.algorithm, threads=threads)))
        found += [
            (hasher.update, piece[max(0, span.begin - begin) : span.end - begin])
            for span, hasher in self._running
        ]
        self._done += [each for each in self._running if each[0].end <= end]
        self._running = [each for each in self._running if each[0].end > end]
        self._at = end
        return found

    def _digest(self, span: Span, data: memoryview) -> None:
        self._found[span.name] = digest.digest_of(data, span.algorithm)

    def digests(self) -> dict[str, str]:
        """Those of all tensors whose bytes have come."""
        for span, hasher in self._done:
            self._found[span.name] = digest.named(hasher, span.algorithm)
        for span in self._next:
            # A tensor without bytes may stand behind the last one.
            if span.begin == span.end == self._at:
                self._digest(span, memoryview(b""))
        return self._found
