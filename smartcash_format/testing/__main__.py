"""`python -m smartcash_format.testing` prints the matrix; exit code 1 when a promise was broken."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from smartcash_format.testing import matrix, training
from smartcash_format.testing.crash import Result


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for and prints the table; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m smartcash_format.testing", description=__doc__)
    parser.add_argument("--on", type=Path, metavar="DIR", help="the storage to try; else in memory")
    parser.add_argument("--full", action="store_true", help="every fault at every point: minutes")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth point only")
    parser.add_argument(
        "--manager", action="store_true", help="through CheckpointManager, with torch"
    )
    parser.add_argument(
        "--kills", type=int, metavar="N", help="only kill one large save at N random moments"
    )
    given = parser.parse_args(arguments)
    place = given.on or matrix.fast_directory()
    tried = training.operations() if given.manager else matrix.operations()
    run = matrix.full if given.full else matrix.quick
    found = run(place, tried, every=given.every)
    if given.kills:
        found = matrix.random_kills(place, given.kills)
    results = list(_counted(found, _say if sys.stderr.isatty() else lambda count: None))
    sys.stdout.write(matrix.tables(results) + "\n")
    broken = matrix.worst(results)
    for line in broken:
        sys.stdout.write(f"BROKEN: {line}\n")
    return 1 if broken else 0


def _counted(results: Iterable[Result], say: Callable[[int], None]) -> Iterator[Result]:
    for count, result in enumerate(results, 1):
        say(count)
        yield result


def _say(count: int) -> None:
    sys.stderr.write(f"\r{count:,} points tried ")


if __name__ == "__main__":
    sys.exit(main())
