"""What a call costs, in readings of a plain program.

A second on one machine is three on another, under a load or under coverage; those change a plain
reading by the same code as much, so the ratio stays. What is quadratic costs hundreds of them.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager

from smartcash_format.spec.known_programs import forget_programs
from smartcash_format.spec.pickles import read_program

# A second or two where a plain reading takes its 70 ms.
SOON = 25
_PLAIN = pickle.dumps([{"value": number} for number in range(10_000)], 2)


class Cost:
    """How many plain readings were as long as the block; set when the block has ended."""

    readings: float


@contextmanager
def measured() -> Iterator[Cost]:
    """Measures the processor's time of the block."""
    cost = Cost()
    began = time.process_time()
    try:
        yield cost
    finally:
        taken = time.process_time() - began
        cost.readings = taken / plain_seconds()


def plain_seconds() -> float:
    """What a plain reading takes of the processor here and now."""
    forget_programs()
    began = time.process_time()
    _, problems = read_program(_PLAIN, where="plain", storages={})
    assert problems == ()
    return time.process_time() - began
