"""Bytes beside the digests that a checkpoint states of them, compared on all cores."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from smartcash_format.spec import digest
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.rules import RESTORE
from smartcash_format.spec.watching import Progress

# More threads than cores gain nothing; beyond this the memory's bandwidth is the limit.
HASHING_THREADS: Final = 8
# For less than this more threads cost more than they gain.
LARGE_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """Bytes, and the digest that is stated of them; `read` gives them in pieces to some threads."""

    where: str
    digest: str
    size_bytes: int
    read: Callable[[int], Iterable[memoryview]]

    def problem(self, meter: _Meter, threads: int) -> Problem | None:
        if not digest.is_known(self.digest):
            return Problem(
                code="digest-unknown",
                where=self.where,
                message="has a digest of an algorithm that this reader does not know",
                found=digest.algorithm_of(self.digest),
                fix="upgrade smartcash-format, or load with verify=False",
            )
        algorithm = digest.algorithm_of(self.digest)
        running = digest.hasher(algorithm, threads=threads)
        for piece in self.read(threads):
            running.update(piece)
            meter.add(len(piece))
        found = digest.named(running, algorithm)
        if found == self.digest:
            return None
        return Problem(
            code="digest-mismatch",
            where=self.where,
            message="does not have the bytes it was saved with: they were changed or have rotted",
            found=found,
            expected=self.digest,
            fix=RESTORE,
        )


def compare(stated: Iterable[Stated], *, progress: Progress | None = None) -> tuple[Problem, ...]:
    """A problem for each whose bytes are not those that were saved, or that nobody here can tell.

    `progress` is called with (bytes hashed, bytes to hash), from any thread. Raises OSError.
    """
    asked = list(stated)
    cores = min(HASHING_THREADS, os.cpu_count() or 1)
    total = sum(each.size_bytes for each in asked)
    meter = _Meter(total, progress)

    def problem(each: Stated) -> Problem | None:
        return each.problem(meter, threads_for(each.size_bytes, total, cores))

    with ThreadPoolExecutor(cores) as pool:
        found = list(pool.map(problem, asked))
    return tuple(each for each in found if each is not None)


def threads_for(size_bytes: int, total_bytes: int, cores: int) -> int:
    """As many of the cores as it has of the bytes, where it is large."""
    return max(1, round(cores * size_bytes / total_bytes)) if size_bytes >= LARGE_BYTES else 1


class _Meter:
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
