"""A stretch of entries that was read before does again what it did, and never something else."""

from __future__ import annotations

import copy
import struct
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.spec import stretches
from smartcash_format.spec.entries import EntryMachine
from smartcash_format.spec.pickles import Program, read_program
from smartcash_format.spec.stretches import forget_stretches
from smartcash_format.torch_io.archive import to_archive
from smartcash_format.torch_io.state import encode

pytestmark = pytest.mark.torch

Made = tuple[bytes, dict[str, int]]


@pytest.fixture(autouse=True)
def nothing_is_known() -> None:
    forget_stretches()


def state(parameters: int = 60, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    live = [nn.Parameter(torch.ones(n % 5 + 1, 3, dtype=dtype)) for n in range(parameters)]
    for parameter in live:
        parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.AdamW(live)
    optimizer.step()
    return optimizer.state_dict()


def made(value: Any) -> Made:
    program, storages = to_archive(encode(value, "state"))
    return program.data, {storage.key: storage.size_bytes for storage in storages}


def read(program: Made) -> Program | None:
    return read_program(program[0], where="data.pkl", storages=program[1])[0]


def read_anew(program: Made) -> Program | None:
    forget_stretches()
    return read(program)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many entries were taken from stretches that were known."""
    counts: list[int] = []
    usual = EntryMachine._take

    def counted(machine: EntryMachine, stretch: stretches.Stretch) -> None:
        counts.append(len(stretch.entries))
        usual(machine, stretch)

    monkeypatch.setattr(EntryMachine, "_take", counted)
    return counts


def test_the_next_save_of_a_training_is_not_read_again(taken: list[int]) -> None:
    first = state()
    later = copy.deepcopy(first)
    later["param_groups"][0]["lr"] = 1e-5
    due = read_anew(made(later))
    forget_stretches()
    assert read(made(first)) is not None
    assert taken == []
    assert read(made(later)) == due
    # All but those whose memos one byte counts, and where a key of one byte becomes one of two.
    assert sum(taken) > 40


def test_the_same_bytes_after_another_beginning_are_read_again(taken: list[int]) -> None:
    """The dtype stands in the first tensor alone: what follows it is the same for two of a size."""
    floats, integers = made(state()), made(state())
    program = integers[0].replace(b"ctorch\nFloatStorage\n", b"ctorch\nIntStorage\n", 1)
    due = read_anew((program, integers[1]))
    assert due is not None
    forget_stretches()
    assert read(floats) is not None
    found = read((program, integers[1]))
    assert found == due
    assert {tensor.dtype for tensor in found.value["state"][50].values()} == {"I32"}
    assert taken == []


@pytest.mark.parametrize("change", ["absent", "size"])
def test_storages_of_a_known_stretch_are_looked_at(change: str, taken: list[int]) -> None:
    data, sizes = made(state())
    assert read((data, sizes)) is not None
    odd = dict(sizes)
    if change == "absent":
        del odd["150"]
    else:
        odd["150"] += 1
    _, problems = read_program(data, where="data.pkl", storages=odd)
    assert [problem.code for problem in problems] == ["pickle-tensor"]
    assert "data/150" in problems[0].message or "'150'" in problems[0].message
    assert sum(taken) > 40


def test_what_a_program_does_to_a_known_entry_stays_its_own(taken: list[int]) -> None:
    data, sizes = made(state())
    clean = read((data, sizes))
    assert clean is not None
    # The last entry's dict is fetched from the memo once more and gets another item.
    numbers = [n for n in range(900, 1_100) if is_entry(data, sizes, n)]
    more = b"j" + struct.pack("<L", numbers[-2]) + b"X\x01\0\0\0zK\x07s"
    odd = b"\x80\x02(" + data[2:-1] + more + b"t."
    found = read((odd, sizes))
    assert found is not None
    assert found.value[1]["z"] == 7
    assert read((data, sizes)) == clean
    assert sum(taken) > 100


def is_entry(data: bytes, sizes: dict[str, int], number: int) -> bool:
    program = b"\x80\x02(" + data[2:-1] + b"j" + struct.pack("<L", number) + b"t."
    found = read((program, sizes))
    return found is not None and type(found.value[1]) is dict and "exp_avg" in found.value[1]


def test_an_entry_that_a_program_changed_is_not_kept_changed() -> None:
    data, sizes = made(state())
    numbers = [n for n in range(900, 1_100) if is_entry(data, sizes, n)]
    due = read_anew((data, sizes))
    more = b"j" + struct.pack("<L", numbers[-1]) + b"X\x01\0\0\0zK\x07s"
    forget_stretches()
    assert read((b"\x80\x02(" + data[2:-1] + more + b"t.", sizes)) is not None
    assert read((data, sizes)) == due


def test_a_stretch_at_another_place_of_the_memo_is_refused_as_before(taken: list[int]) -> None:
    data, sizes = made(state())
    assert read((data, sizes)) is not None
    stretch = next(iter(stretches._stretches.values()))
    # A text of the program's own before the stretch, with a memo: all that follow have one too few.
    begin = data.index(stretch.data) - 3
    own = b"X\x01\0\0\0zr" + struct.pack("<L", stretch.first) + b"K\x07"
    odd = data[:begin] + own + data[begin:]
    _, problems = read_program(odd, where="data.pkl", storages=sizes)
    assert [problem.code for problem in problems] == ["pickle-structure"]
    assert taken == []


def test_what_was_refused_is_not_known(taken: list[int]) -> None:
    data, sizes = made(state())
    # An opcode of no state, bytes behind the end, a value that is no data, a storage never named.
    assert read((data[:-1] + b"0.", sizes)) is None
    assert read((data + b".", sizes)) is None
    assert read((b"\x80\x02(" + data[2:-1] + b"ccollections\nOrderedDict\nt.", sizes)) is None
    assert read((data, {**sizes, "9999": 4})) is None
    assert read((data, sizes)) is not None
    assert taken == []


def test_containers_of_known_stretches_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    data, sizes = made(state())
    assert read((data, sizes)) is not None
    monkeypatch.setattr("smartcash_format.spec.limits.PROGRAM_MEMORY", 20_000)
    _, problems = read_program(data, where="data.pkl", storages=sizes)
    assert [problem.code for problem in problems] == ["pickle-bounds"]


def test_few_and_small_stretches_are_kept() -> None:
    for parameters in range(30, 48):
        assert read(made(state(parameters, torch.float64))) is not None
    assert 0 < len(stretches._stretches) <= 4


def test_what_is_short_or_long_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    program = made(state())
    for name, bound in (("_FEWEST", 1_000), ("_KEPT_BYTES", 1_000)):
        with monkeypatch.context() as patch:
            patch.setattr(stretches, name, bound)
            assert read(program) is not None
        assert stretches._stretches == {}
    assert read(program) is not None
    assert len(stretches._stretches) == 1
