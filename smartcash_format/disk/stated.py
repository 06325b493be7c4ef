"""Bytes beside the digests that a checkpoint states of them, compared on all cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field

from smartcash_format.disk.hashing import Meter, cores, digests_of, threads_for
from smartcash_format.disk.pool import Pool
from smartcash_format.disk.positioned import Parsed
from smartcash_format.spec import digest
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.rules import RESTORE
from smartcash_format.spec.watching import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """Bytes, and the digest that is stated of them; `read` gives them in pieces to some threads.

    `parsed` are places that somebody went by before: they have to have the same bytes now.
    """

    where: str
    digest: str
    size_bytes: int
    read: Callable[[int], Iterable[memoryview]]
    parsed: Parsed = field(default_factory=list)

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
        again = _Again(self.parsed)
        pieces = again.passing(self.read(threads))
        found = digests_of(pieces, algorithm, meter=meter, threads=threads).of_file
        if found == self.digest:
            return None if again.same else rewritten(self.where)
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

    with Pool(cores()) as pool:
        found = list(pool.map(problem, asked))
    return tuple(each for each in found if each is not None)


def rewritten(where: str) -> Problem:
    """The problem of a file whose bytes are not the same all the time that it is loaded."""
    return Problem(
        code="digest-mismatch",
        where=where,
        message="was written to while it was loaded",
        fix="load again once nothing writes there; a published file never changes",
    )


class _Again:
    """Whether bytes that come in order are, in some places, those that were there before."""

    def __init__(self, parsed: Parsed) -> None:
        self._next = deque(sorted(parsed))
        self.same = True

    def passing(self, pieces: Iterable[memoryview]) -> Generator[memoryview, None, None]:
        """The same pieces; `same` is told of those that have passed."""
        open_: Parsed = []
        begin = 0
        for piece in pieces:
            end = begin + len(piece)
            while self._next and self._next[0][0] < end:
                open_.append(self._next.popleft())
            for position, data in open_:
                low, high = max(position, begin), min(position + len(data), end)
                there = data[low - position : high - position]
                self.same = self.same and piece[low - begin : high - begin] == there
            open_ = [(position, data) for position, data in open_ if position + len(data) > end]
            yield piece
            begin = end
