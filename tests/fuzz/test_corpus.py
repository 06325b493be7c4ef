"""Every seed, whole and damaged, ends soon and takes little memory, whatever it is."""

from __future__ import annotations

import os
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from multiprocessing import get_context

import pytest

from tests.costs import SOON, plain_seconds
from tests.fuzz.bounds import MEMORY_BYTES, TooCostlyError, bounded
from tests.fuzz.targets import TARGETS, seeds

_CHANGES_A_SEED = 8


def _changed(data: bytes, chance: random.Random) -> bytes:
    """The same with a few bytes replaced, cut out or doubled."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0:
                changed[at : at + 1] = chance.randbytes(1)
            case 1:
                del changed[at : at + chance.randrange(1, 9)]
            case 2:
                changed[at:at] = changed[at : at + chance.randrange(1, 40)]
            case _:
                changed[at : at + 4] = chance.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"))
    return bytes(changed)


def _tried(target: str) -> Iterator[bytes]:
    """Each seed, and the same changed in a few ways: at every call the same ones."""
    chance = random.Random(target)
    for seed in seeds(target):
        yield seed
        for _ in range(_CHANGES_A_SEED):
            yield _changed(seed, chance)


@pytest.mark.no_cover
@pytest.mark.parametrize("target", TARGETS)
def test_a_seed_and_its_neighbours_cost_little(target: str) -> None:
    tried, worst = 0, (0.0, b"")
    for data in _tried(target):
        began = time.process_time()
        TARGETS[target](data)
        worst = max(worst, (time.process_time() - began, data))
        tried += 1
    assert tried > 200
    assert worst[0] / plain_seconds() < SOON, worst[1][:1_000]


@pytest.mark.no_cover
@pytest.mark.parametrize("target", TARGETS)
def test_a_seed_and_its_neighbours_take_little_memory(target: str) -> None:
    for data in _tried(target):
        tracemalloc.start()
        try:
            TARGETS[target](data)
            assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES, data[:1_000]
        finally:
            tracemalloc.stop()


def _take_long(data: bytes) -> None:
    for _ in range(2 * SOON):
        plain_seconds()


def _take_memory(data: bytes) -> None:
    assert b"x" * (MEMORY_BYTES + (8 << 20))


@pytest.mark.no_cover
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is asked of Linux")
@pytest.mark.parametrize(
    ("costly", "what"), [(_take_long, "plain readings"), (_take_memory, "MiB")]
)
def test_an_input_that_costs_too_much_is_told_by_the_fuzzer(
    costly: Callable[[bytes], None], what: str
) -> None:
    # In a process of its own, whose peak is not that of this one, which holds more.
    held = bytearray(8 * MEMORY_BYTES)
    with get_context("spawn").Pool(1) as pool, pytest.raises(TooCostlyError, match=what):
        pool.apply(_tried_once, (costly,))
    assert held


def _tried_once(costly: Callable[[bytes], None]) -> None:
    bounded(len)(b"")  # type: ignore[arg-type]
    bounded(costly)(b"")
