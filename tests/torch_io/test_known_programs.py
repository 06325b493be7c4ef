"""A program that differs from a known one in numbers gives what it would give if it were read."""

from __future__ import annotations

import copy
import math
import pickle
import random
import struct
import sys
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.spec import known_programs
from smartcash_format.spec.entries import EntryMachine
from smartcash_format.spec.known_programs import NUMBERS, forget_programs
from smartcash_format.spec.pickles import Program, TensorRef, read_program
from smartcash_format.torch_io.archive import to_archive
from smartcash_format.torch_io.state import encode

pytestmark = pytest.mark.torch

BETAS = (-0.0, math.nan)
Made = tuple[bytes, dict[str, int]]
Read = tuple[Program | None, list[tuple[str, str]]]


@pytest.fixture(autouse=True)
def nothing_is_known() -> None:
    forget_programs()


def state(parameters: int = 60, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    live = [nn.Parameter(torch.ones(n % 5 + 1, 3, dtype=dtype)) for n in range(parameters)]
    for parameter in live:
        parameter.grad = torch.ones_like(parameter)
    groups: list[dict[str, Any]] = [{"params": live[:9]}, {"params": live[9:], "lr": 1e-4}]
    optimizer = torch.optim.AdamW(groups)
    optimizer.step()
    return optimizer.state_dict()


def made(value: Any) -> Made:
    program, storages = to_archive(encode(value, "state"))
    return program.data, {storage.key: storage.size_bytes for storage in storages}


def large(value: Any) -> Made:
    """A program without tensors, large enough to be kept."""
    return pickle.dumps([value, ["x" * 20_000]], 2), {}


def read(program: Made) -> Read:
    found, problems = read_program(program[0], where="data.pkl", storages=program[1])
    return found, [(problem.code, problem.message) for problem in problems]


def read_anew(program: Made) -> Read:
    forget_programs()
    found = read(program)
    forget_programs()
    return found


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of each program that was read opcode by opcode."""
    lengths: list[int] = []
    usual = EntryMachine.__init__

    def counted(machine: EntryMachine, data: bytes, *rest: Any) -> None:
        lengths.append(len(data))
        usual(machine, data, *rest)

    monkeypatch.setattr(EntryMachine, "__init__", counted)
    return lengths


def test_the_next_save_of_a_training_is_not_read_again(runs: list[int]) -> None:
    first = state()
    later = copy.deepcopy(first)
    for group, rate in zip(later["param_groups"], (1e-5, math.inf), strict=True):
        group["lr"] = rate
        group["betas"] = BETAS
    due, unchanged = read_anew(made(later)), read_anew(made(first))
    runs.clear()
    assert read(made(first)) == unchanged
    assert len(runs) == 1
    found, problems = read(made(later))
    assert problems == []
    assert found is not None
    assert due[0] is not None
    assert repr(found.value) == repr(due[0].value)
    assert found.globals == due[0].globals
    assert type(found.value["state"][3]["exp_avg"]) is TensorRef
    # What was read first is what it was.
    assert read(made(first)) == unchanged
    assert len(runs) == 1


def test_a_program_that_differs_in_anything_else_is_read_again(runs: list[int]) -> None:
    program = made(state())
    data, sizes = program
    numbers = {at + byte for at in places(data) for byte in range(8)}
    chance = random.Random(5)
    for at in chance.sample([at for at in range(len(data)) if at not in numbers], 150):
        odd = bytearray(data)
        odd[at] ^= 1 << chance.randrange(8)
        due = read_anew((bytes(odd), sizes))
        assert read(program)[1] == []
        runs.clear()
        assert read((bytes(odd), sizes)) == due
        assert len(runs) == 1


def places(data: bytes) -> list[int]:
    """Where the eight bytes of each number stand."""
    import pickletools

    found = pickletools.genops(data)
    return [at + 1 for opcode, _, at in found if opcode.name == "BINFLOAT" and at is not None]


@pytest.mark.parametrize("change", ["absent", "size", "more"])
def test_storages_of_a_known_program_are_looked_at(change: str) -> None:
    data, sizes = made(state())
    assert read((data, sizes))[1] == []
    odd = dict(sizes)
    match change:
        case "absent":
            del odd["150"]
        case "size":
            odd["150"] += 1
        case _:
            odd["9999"] = 4
    found, problems = read((data, odd))
    assert found is None
    assert (found, problems) == read_anew((data, odd))


def test_what_was_refused_is_not_known() -> None:
    data, sizes = made(state())
    # An opcode of no state, bytes behind the end, a value that is no data, a storage never named.
    assert read((data[:-1] + b"0.", sizes))[0] is None
    assert read((data + b".", sizes))[0] is None
    assert read((b"\x80\x02(" + data[2:-1] + b"ccollections\nOrderedDict\nt.", sizes))[0] is None
    assert read((data, {**sizes, "9999": 4}))[0] is None
    assert known_programs._programs == {}


def test_a_program_whose_numbers_are_more_than_values_is_not_known() -> None:
    shared = [0.5]
    for program in (
        large({0.5: 1}),
        large({(0.5, 1): 2}),
        large({"$type": "set", "items": [0.5]}),
        large([0.5] * (NUMBERS + 1)),
        large([shared, shared]),
        large(OrderedDict([("a", 0.5)])),
    ):
        assert read(program)[1] == []
        assert known_programs._programs == {}
    assert read(large({"a": [(1, 0.5), 0.25], 2: 0.5}))[1] == []
    assert len(known_programs._programs) == 1


def test_numbers_come_to_their_places_in_every_container(runs: list[int]) -> None:
    form = {"a": [(1, 0.5, [0.5]), 0.25], 2: {"b": 0.5}, "c": ((0.125,),)}
    other = {"a": [(1, 1.5, [2.5]), 3.25], 2: {"b": 4.5}, "c": ((5.125,),)}
    assert read(large(form))[1] == []
    found, _ = read(large(other))
    assert found is not None
    assert found.value[0] == other
    again, _ = read(large(form))
    assert again is not None
    assert again.value[0] == form
    assert len(runs) == 1


def test_a_number_at_two_places_changes_at_both(runs: list[int]) -> None:
    """As the betas of two groups, which are one tuple; and one that a program fetches again."""

    def twice(number: float) -> Made:
        text = b"X" + struct.pack("<L", 20_000) + b"x" * 20_000
        fetched = b"(G" + struct.pack(">d", number) + b"q\x01h\x01"
        return b"\x80\x02]q\0" + fetched + text + b"e.", {}

    for first, later in (
        (large([(0.5, 0.25)] * 2), large([(1.5, 0.25)] * 2)),
        (twice(0.5), twice(1.5)),
    ):
        due = read_anew(later)
        assert read(first)[1] == []
        runs.clear()
        assert read(later) == due
        assert runs == []


@pytest.mark.parametrize(
    "after",
    [
        b"}h\x00h\x00s",  # a key as well
        b"}h\x00K\x01\x86h\x00s",  # in a key as well
        b"]q\x01h\x00a\x85q\x02h\x02",  # in a list of a tuple that stands at two places
        b"]q\x01h\x00a\x85\x85q\x02h\x02",  # deeper in it
        b"h\x00" * 1_000,  # at so many places that reading is faster
    ],
)
def test_a_number_that_is_fetched_again_gives_what_reading_gives(after: bytes) -> None:
    """What a dict, or a list that is at two places, would become is seen by changing it."""

    def program(number: float) -> Made:
        text = b"X" + struct.pack("<L", 20_000) + b"x" * 20_000
        return b"\x80\x02(G" + struct.pack(">d", number) + b"q\x00" + after + text + b"t.", {}

    due = read_anew(program(1.5))
    assert read(program(0.5))[1] == []
    found = read(program(1.5))
    assert found == due
    assert found[0] is not None
    assert due[0] is not None
    assert pickle.dumps(found[0].value) == pickle.dumps(due[0].value)
    assert known_programs._programs == {}


def test_what_is_deep_is_kept_with_few_calls() -> None:
    """Thousands of values below many levels are not handed up through each."""
    deep: Any = [0.5, *[True] * 10_000]
    for _ in range(50):
        deep = [deep]
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    program = large(deep)
    sys.setprofile(count)
    try:
        found = read(program)
    finally:
        sys.setprofile(None)
    assert found[1] == []
    assert len(known_programs._programs) == 1
    assert calls < 3 * 10_000


def test_few_and_small_programs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for parameters in range(60, 78):
        assert read(made(state(parameters, torch.float64)))[1] == []
    assert len(known_programs._programs) == 4
    for name, bound in (("_FEWEST_BYTES", 1 << 20), ("_KEPT_BYTES", 1_000)):
        forget_programs()
        with monkeypatch.context() as patch:
            patch.setattr(known_programs, name, bound)
            assert read(made(state()))[1] == []
        assert known_programs._programs == {}
