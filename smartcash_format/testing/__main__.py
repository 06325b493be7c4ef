"""`python -m smartcash_format.testing` prints the matrix; exit code 1 when a promise was broken."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from smartcash_format.testing import matrix, training
from smartcash_format.testing.crash import Result
from smartcash_format.testing.points import POWER

PARTS = ("store", "manager", "kills")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for and prints the table; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m smartcash_format.testing", description=__doc__)
    parser.add_argument("--on", type=Path, metavar="DIR", help="the storage to try; else in memory")
    parser.add_argument(
        "--full",
        action="store_true",
        help="every fault at every point of every mount: an hour of one core",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth point only")
    parser.add_argument(
        "--only",
        choices=PARTS,
        help="a part: what needs no torch, what a CheckpointManager does, or one large save killed "
        "at random moments; else all of them",
    )
    given = parser.parse_args(arguments)
    parts = [given.only] if given.only else [*PARTS]
    if "manager" in parts and find_spec("torch") is None:
        parts.remove("manager")
        sys.stdout.write("torch is not installed: what a CheckpointManager does is left out\n\n")
    place = given.on or matrix.fast_directory()
    found = _found(parts, place, full=given.full, every=given.every)
    results = list(_told(found))
    sys.stdout.write(matrix.tables(results) + "\n")
    broken = matrix.worst(results)
    for line in broken:
        sys.stdout.write(f"BROKEN: {line}\n")
    return 1 if broken else 0


def _found(parts: Sequence[str], place: Path, *, full: bool, every: int) -> Iterator[Result]:
    run = matrix.full if full else matrix.quick
    if "store" in parts:
        yield from run(place, matrix.operations(), every=every)
    if "kills" in parts:
        yield from matrix.random_kills(place, matrix.KILLS if full else matrix.QUICK_KILLS)
    # Last: torch makes every fork after it slower.
    if "manager" in parts:
        yield from run(place, training.operations(), every=every)


def _told(results: Iterable[Result]) -> Iterator[Result]:
    """The same, with a line for each operation that is done, and at once for what is broken."""
    began = time.perf_counter()
    for (operation, is_power), group in groupby(
        results, lambda one: (one.operation, one.fault is POWER)
    ):
        count = 0
        for count, result in enumerate(group, 1):
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{operation}: {count:,} points ")
            for line in matrix.worst([result]):
                sys.stderr.write(f"\rBROKEN: {line}\n")
            yield result
        what = f"{operation}, power loss" if is_power else operation
        seconds = time.perf_counter() - began
        sys.stderr.write(f"{what}: {count:,} points tried, {seconds:,.0f} s since the start\n")


if __name__ == "__main__":
    sys.exit(main())
