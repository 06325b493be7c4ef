"""Bytes beside the digests that a checkpoint states of them, compared on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from smartcash_format.disk.hashing import Meter, cores, digests_of, threads_for
from smartcash_format.spec import digest
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.rules import RESTORE
from smartcash_format.spec.watching import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """Bytes, and the digest that is stated of them; `read` gives them in pieces to some threads."""

    where: str
    digest: str
    size_bytes: int
    read: Callable[[int], Iterable[memoryview]]

    def problem(self, meter: Meter, threads: int) -> Problem | None:
        if not digest.is_known(self.digest):
            return Problem(
                code="digest-unknown",
                where=self.where,
                message="has a digest of an algorithm that this reader does not know",
                found=digest.algorithm_of(self.digest),
                fix="upgrade smartcash-format, or load with verify=False",
            )
        algorithm = digest.algorithm_of(self.digest)
        found = digests_of(self.read(threads), algorithm, meter=meter, threads=threads).of_file
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
    total = sum(each.size_bytes for each in asked)
    meter = Meter(total, progress)

    def problem(each: Stated) -> Problem | None:
        return each.problem(meter, threads_for(each.size_bytes, total, cores()))

    with ThreadPoolExecutor(cores()) as pool:
        found = list(pool.map(problem, asked))
    return tuple(each for each in found if each is not None)
