"""What the reading of a program takes in memory: a bound for each container that it may make."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import pytest

from smartcash_format.spec import limits
from smartcash_format.spec.pickles import read_program
from tests.spec.torch_files import COUNTER, ORDERED_DICT, PROTO, text

# All that a program may make are to take no more than 64 MiB.
EACH_BYTES = (64 << 20) // limits.PROGRAM_CONTAINERS
FEWER = 1 << 14
# Of the machine itself, and of integers.
FIXED_BYTES = 64 << 10


def put(number: int) -> bytes:
    return b"r" + struct.pack("<L", number)


def get(number: int) -> bytes:
    return b"j" + struct.pack("<L", number)


def many(made: bytes, rest: int) -> bytes:
    """A list of what these opcodes make, and of so many empty ones."""
    return PROTO + b"](" + made + b"]" * rest + b"e."


def repeated(opcodes: bytes, containers: int) -> bytes:
    """A list of as many of these as may be, each of which counts as so many containers."""
    return numbered(lambda _: opcodes, containers)


def numbered(opcodes: Callable[[int], bytes], containers: int) -> bytes:
    made, rest = divmod(FEWER - 1, containers)
    return many(b"".join(map(opcodes, range(made))), rest)


def copies() -> bytes:
    """As many counters of one dict as may be."""
    made, rest = divmod(FEWER - 1 - 701 - 2, 704)
    first = filled(1_400).replace(b"}", b"}" + put(0), 1)
    return many(first + (COUNTER + get(0) + b"\x85R") * made, rest)


def filled(entries: int) -> bytes:
    """A dict of so many values; a key that is no text makes each entry longer."""
    # Of a text of one character there is one only.
    texts = b"".join(text(chr(ord("0") + key)) + b"N" for key in range(entries - 1))
    return b"}(NN" + texts + b"u"


WORST = {
    "empty lists": repeated(b"]", 1),
    "empty lists in lists": repeated(b"]]a", 2),
    "lists of a value": repeated(b"]Na", 1),
    "lists of five values": repeated(b"](NNNNNe", 1),
    "tuples of a value": repeated(b"N\x85", 1),
    "empty dicts": repeated(b"}", 1),
    "dicts of a value": repeated(b"}" + text("a") + b"Ns", 3),
    "dicts of five values": repeated(
        b"}(" + b"".join(text(name) + b"N" for name in "abcde") + b"u", 3
    ),
    "dicts of ten values": repeated(filled(10), 3),
    "dicts of eleven values": repeated(filled(11), 6),
    "dicts of 22 values": repeated(filled(22), 12),
    "dicts of 43 values": repeated(filled(43), 22),
    "counters": repeated(COUNTER + filled(5) + b"\x85R", 9),
    "counters of 43 values": repeated(COUNTER + filled(43) + b"\x85R", 47),
    "counters of one dict": copies(),
    "ordered dicts": repeated(ORDERED_DICT + b")R", 3),
    "memoised lists": numbered(lambda n: b"]" + put(n), 1),
    "lists in two places": numbered(lambda n: b"]" + put(n) + get(n), 3),
}


@pytest.mark.no_cover
@pytest.mark.parametrize("name", WORST)
def test_each_container_takes_no_more_than_its_share(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROGRAM_CONTAINERS", FEWER)
    program = WORST[name]
    tracemalloc.start()
    try:
        _, problems = read_program(program, where=name, storages={})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert problems == ()
    assert most < FEWER * EACH_BYTES + FIXED_BYTES
    # As many as there may be: with one more it is refused.
    more = program.removesuffix(b"e.") + b"]e."
    _, problems = read_program(more, where=name, storages={})
    assert [problem.code for problem in problems] == ["pickle-bounds"]
