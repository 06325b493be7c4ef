"""What is read in one go is what its opcodes make, whoever wrote them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest

from smartcash_format.spec import limits, pickle_machine
from smartcash_format.spec.entries import EntryMachine
from smartcash_format.spec.known_programs import forget_programs
from smartcash_format.spec.pickles import TensorRef, read_program
from smartcash_format.spec.program_memory import CONTAINER, NUMBER, PLACE
from tests.spec.opcode_writer import BEGIN, STORAGES, Writer, get
from tests.spec.torch_files import PROTO, STOP


def both_roads(program: bytes, storages: Mapping[str, int]) -> tuple[Any, Any]:
    """What is read in one go, and opcode by opcode; a text for what is refused."""

    def read() -> Any:
        forget_programs()
        found, problems = read_program(program, where="data.pkl", storages=storages)
        return problems[0].message if found is None else found

    quick = read()
    with pytest.MonkeyPatch.context() as patch:
        for road in ("read_entry", "read_tensor", "read_integers"):
            patch.setattr(EntryMachine, road, lambda self, at: 0)
        return quick, read()


@pytest.mark.parametrize("noted", ["usual", "other", "all", "none"])
def test_what_an_entry_memoises_keeps_its_number(noted: str) -> None:
    """An empty tuple may have a number and others none: in sum as many as usual."""
    tensors = 0
    for number in range(BEGIN, BEGIN + 16):
        writer = Writer()
        program = PROTO + b"(" + writer.beginning() + writer.kept(b"}") + b"("
        program += get(5) + writer.tensor("0", b")", noted=noted in ("other", "all"))
        program += get(6) + writer.tensor("1", b"K\1\x85", noted=noted in ("usual", "all"))
        quick, slow = both_roads(program + b"u" + get(number) + b"t" + STOP, STORAGES)
        assert quick == slow
        tensors += type(slow) is not str and type(slow.value[-1]) is TensorRef
    assert tensors == 2


@pytest.mark.parametrize("first", [b"K\1", b"M\1\1", b"J\0\0\0\x80", b"\x8a\5" + bytes(5)])
def test_long_rows_of_integers_are_those_of_their_opcodes(first: bytes) -> None:
    for others in (b"K\7" * 20_000, b"M\7\7" * 9_000 + b"K\7", b"J\7\0\0\0" * 4_000 + b"N"):
        quick, slow = both_roads(PROTO + b"](" + first + others + b"e" + STOP, {})
        assert quick == slow


@pytest.mark.parametrize("first", [b"K\1", b"M\1\1", b"J\0\0\0\x80", b"\x8a\5" + bytes(5)])
def test_rows_of_integers_are_counted_as_their_opcodes(
    first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = PROTO + b"](" + first + b"K\7" * 3_000 + b"M\7\7" * 2_000 + b"e" + STOP
    # 5,001 integers with a place each, a list and its place on the stack.
    made = 5_001 * (NUMBER + PLACE) + CONTAINER
    stack = 5_002 * PLACE
    for room, refused in ((made + stack, False), (made + stack - 1, True)):
        monkeypatch.setattr(limits, "PROGRAM_MEMORY", room)
        for found in both_roads(program, {}):
            assert (type(found) is str) == refused


@pytest.mark.parametrize("first", [b"K\1", b"J\0\0\0\x80"])
def test_a_row_of_integers_takes_little_more_memory_than_its_values(first: bytes) -> None:
    program = PROTO + b"](" + first + b"K\7" * 1_000_000 + b"e" + STOP
    tracemalloc.start()
    try:
        found, _ = read_program(program, where="data.pkl", storages={})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found is not None
    # A pointer on the stack and one in the list, both of which grow by an eighth.
    assert peak < 32 << 20


def test_tensors_of_entries_are_counted_long_before_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = Writer()
    program = PROTO + b"(" + writer.beginning()
    for key in range(2_000):
        entry = writer.kept(b"}") + get(5) + writer.tensor(str(key), b")", noted=False)
        program += b"K\7" + entry + b"s"
    storages = {str(key): 4 for key in range(2_000)}
    assert read_program(program + b"t" + STOP, where="data.pkl", storages=storages)[0] is not None
    forget_programs()
    monkeypatch.setattr(pickle_machine, "_TENSORS", 300)
    # What is behind the entries would be refused for something else.
    _, problems = read_program(program + b"0", where="data.pkl", storages=storages)
    assert [problem.code for problem in problems] == ["pickle-bounds"]
