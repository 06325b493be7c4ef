"""What the reading of a program takes in memory: a bound for each container that it may make."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import pytest

from smartcash_format.spec import limits
from smartcash_format.spec.pickles import read_program
from tests.spec.torch_files import ORDERED_DICT, PROTO, text

# All that a program may make are to take no more than 64 MiB.
EACH_BYTES = (64 << 20) // limits.PROGRAM_CONTAINERS
FEWER = 1 << 14
# Of the machine itself, and of integers.
FIXED_BYTES = 64 << 10


def put(number: int) -> bytes:
    return b"r" + struct.pack("<L", number)


def get(number: int) -> bytes:
    return b"j" + struct.pack("<L", number)


def repeated(opcodes: bytes, containers: int) -> bytes:
    """A list of as many of these as may be, each of which counts as so many containers."""
    return PROTO + b"](" + opcodes * (FEWER // containers - 1) + b"e."


def numbered(opcodes: Callable[[int], bytes], containers: int) -> bytes:
    each = map(opcodes, range(FEWER // containers - 1))
    return PROTO + b"](" + b"".join(each) + b"e."


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
    # As many as there may be: with a few more it is refused.
    body = program.removeprefix(PROTO + b"](").removesuffix(b"e.")
    more = PROTO + b"](" + b"]]]]" + body + b"e."
    _, problems = read_program(more, where=name, storages={})
    assert [problem.code for problem in problems] == ["pickle-bounds"]
