"""What the static reader reads in one go is what it would have read opcode by opcode."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.spec import entries
from smartcash_format.spec.entries import EntryMachine
from smartcash_format.spec.known_programs import forget_programs
from smartcash_format.spec.pickles import TensorRef, read_program
from smartcash_format.torch_io.archive import to_archive
from smartcash_format.torch_io.state import encode
from tests.torch_io.scanned import check, close, large_state, saved, written

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def nothing_is_known() -> None:
    forget_programs()


def count_shortcuts(monkeypatch: pytest.MonkeyPatch, road: str) -> list[int]:
    taken: list[int] = []
    usual = getattr(EntryMachine, road)

    def counted(machine: EntryMachine, at: int) -> int:
        end: int = usual(machine, at)
        taken.extend([end] if end else [])
        return end

    monkeypatch.setattr(EntryMachine, road, counted)
    return taken


@pytest.mark.parametrize("write", [saved, written])
def test_tensors_read_in_one_go_are_those_of_their_opcodes(
    write: Callable[[Any], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(large_state())
    entries = count_shortcuts(monkeypatch, "read_entry")
    quick = check(file)
    assert len(entries) == 30
    close(monkeypatch, "read_entry")
    tensors = count_shortcuts(monkeypatch, "read_tensor")
    assert check(file) == quick
    assert len(tensors) > 120
    close(monkeypatch)
    assert check(file) == quick


KEPT = [f"kept_{number}" for number in range(9)]


def entries_of(counts: list[int]) -> dict[int, dict[str, torch.Tensor]]:
    """The entries of an optimizer that keeps so many tensors of each parameter."""
    return {
        number: {name: torch.ones(number % 5, 2) for name in KEPT[:count]}
        for number, count in enumerate(counts)
    }


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("counts", "taken"),
    [
        ([1] * 300, range(250, 300)),
        ([8] * 60, range(50, 60)),
        ([9] * 60, range(1)),
        ([3] * 60 + [2] * 60, range(40, 60)),
        ([3, 2, 0, 1] * 30, range(15, 31)),
        ([0] * 400, range(1)),
    ],
)
def test_entries_of_few_or_many_tensors_are_those_of_their_opcodes(
    counts: list[int], taken: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(entries_of(counts))
    entries = count_shortcuts(monkeypatch, "read_entry")
    quick = check(file)
    assert len(entries) in taken
    close(monkeypatch)
    assert check(file) == quick


@pytest.mark.parametrize("together", [1, 2, 7])
def test_entries_end_where_a_search_for_some_of_them_ends(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "_TOGETHER", together)
    taken = count_shortcuts(monkeypatch, "read_entry")
    # The dicts behind the last entry are looked for as well, and nothing is found.
    check(written([entries_of([2] * 42), {"behind": [{}, {"a": 1}]}]))
    assert len(taken) > 20


# Most of its memos are beyond the 256th, where tensors are read in one go.
_MADE, _STORAGES = to_archive(encode(large_state(24), "state"))
LARGE = _MADE.data
LARGE_STORAGES = {storage.key: storage.size_bytes for storage in _STORAGES}


def both_roads(program: bytes) -> tuple[Any, Any]:
    """What is read in one go, and opcode by opcode; None for what is refused.

    It is the same where a program that is like it is known.
    """
    forget_programs()
    quick, _ = read_program(program, where="data.pkl", storages=LARGE_STORAGES)
    forget_programs()
    assert read_program(LARGE, where="data.pkl", storages=LARGE_STORAGES)[0] is not None
    assert read_program(program, where="data.pkl", storages=LARGE_STORAGES)[0] == quick
    with pytest.MonkeyPatch.context() as patch:
        close(patch)
        slow, _ = read_program(program, where="data.pkl", storages=LARGE_STORAGES)
    return quick and (quick.value, quick.globals), slow and (slow.value, slow.globals)


def with_behind(opcodes: bytes) -> bytes:
    """The state and what these opcodes push, as a tuple."""
    return LARGE[:2] + b"(" + LARGE[2:-1] + opcodes + b"t."


def fetch(number: int) -> bytes:
    return b"j" + struct.pack("<L", number)


def test_parts_of_a_tensor_that_are_fetched_later_are_what_opcodes_make(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = count_shortcuts(monkeypatch, "read_entry")
    quick, slow = both_roads(LARGE)
    assert quick == slow
    assert len(taken) > 10
    values = []
    for number in range(300, 328):
        quick, slow = both_roads(with_behind(fetch(number) + fetch(number)))
        assert quick == slow
        if quick is not None:
            _, first, second = quick[0]
            assert first is second
            values.append(first)
    # Keys, shapes and strides, hooks, tensors; what names a storage and arguments are no data.
    assert {type(value) for value in values} == {str, tuple, dict, TensorRef}


def test_a_tensor_may_be_made_again_from_the_arguments_of_one_that_was_read_in_one_go() -> None:
    rebuild = next(at for at in range(256) if LARGE.count(b"h" + bytes([at]) + b"((") > 40)
    made = 0
    for number in range(300, 314):
        quick, slow = both_roads(with_behind(b"h" + bytes([rebuild]) + fetch(number) + b"R"))
        assert quick == slow
        made += quick is not None
    assert made == 2


def test_hooks_added_later_to_a_tensor_that_was_read_in_one_go_are_refused() -> None:
    added = [both_roads(with_behind(fetch(at) + b"K\x01K\x02s")) for at in range(300, 314)]
    assert added == [(None, None)] * 14
    assert both_roads(with_behind(b"}K\x01K\x02s"))[0] is not None


@pytest.mark.no_cover
def test_damage_in_what_is_read_in_one_go_is_found_as_it_is_opcode_by_opcode() -> None:
    chance = random.Random(7)
    for _ in range(150):
        program = bytearray(LARGE)
        at = chance.randrange(len(LARGE) // 2, len(LARGE) - 400)
        for near in range(chance.choice((1, 1, 2))):
            program[at + near] = chance.choice((program[at - 51], chance.randrange(256)))
        quick, slow = both_roads(bytes(program))
        assert quick == slow, at


# Behind the number of a parameter: an empty dict, its memo, and the tensors that are set in it.
ENTRY = re.compile(rb"K.}(r(....)\()h(.)h(.)\(\(", re.DOTALL)


def entry_at(program: bytes) -> re.Match[bytes]:
    """An entry that is read in one go."""
    return [*ENTRY.finditer(program)][-5]


def with_other(program: bytes, begin: int, end: int, other: bytes) -> tuple[Any, Any]:
    """Both roads through a program with other bytes in one place."""
    return both_roads(program[:begin] + other + program[end:])


@pytest.mark.no_cover
def test_what_an_entry_fetches_may_be_whatever_was_given_before_where_opcodes_may() -> None:
    entry = entry_at(LARGE)
    taken: dict[int, list[int]] = {3: [], 4: []}
    for group, numbers in taken.items():
        begin = entry.start(group)
        for number in range(256):
            quick, slow = with_other(LARGE, begin, begin + 1, bytes([number]))
            assert quick == slow
            numbers.extend([number] if quick is not None else [])
    names, functions = taken.values()
    # Any text is a name, and one function makes tensors.
    assert entry[3][0] in names
    assert functions == [entry[4][0]]


def test_a_key_of_a_storage_in_an_entry_is_as_long_as_it_says() -> None:
    begin = LARGE.index(b"X", entry_at(LARGE).end()) + 1
    for length in range(1, 5):
        quick, slow = with_other(LARGE, begin, begin + 1, bytes([length]))
        assert quick == slow
        assert (quick is not None) is (LARGE[begin] == length)


def test_an_entry_whose_memos_are_numbered_as_those_before_it_is_refused() -> None:
    entry = entry_at(LARGE)
    # The number of the parameter is memoised too, which takes the number that the dict has.
    begin = entry.start() + 2
    assert with_other(LARGE, begin, begin, b"r" + entry[2]) == (None, None)


@given(
    numbers=st.lists(
        st.one_of(
            st.integers(0, 255),
            st.integers(0, 1 << 16),
            st.integers(-(1 << 33), 1 << 33),
            st.integers(-(1 << 70), 1 << 70),
            st.just("text"),
        ),
        max_size=40,
    )
)
def test_integers_in_a_row_are_those_of_their_opcodes(numbers: list[Any]) -> None:
    file = written({"numbers": numbers, "pair": tuple(numbers), "keys": dict.fromkeys(numbers)})
    quick = check(file)
    with pytest.MonkeyPatch.context() as patch:
        close(patch)
        assert check(file) == quick


def test_a_row_of_integers_is_counted_as_their_opcodes(monkeypatch: pytest.MonkeyPatch) -> None:
    program = b"\x80\x02](" + b"K\x01" * 300 + b"M\x01\x01" * 300 + b"J\0\0\0\x80" * 300 + b"e."
    assert read_program(program, where="data.pkl", storages={})[0] is not None
    monkeypatch.setattr("smartcash_format.spec.limits.PROGRAM_OPCODES", 899)
    _, problems = read_program(program, where="data.pkl", storages={})
    assert [problem.code for problem in problems] == ["pickle-bounds"]
