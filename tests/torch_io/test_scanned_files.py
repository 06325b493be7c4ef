"""What the static reader lets pass, torch loads, and sees alike; with torch's own files."""

from __future__ import annotations

import io
import random
import re
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from smartcash_format.spec import entries
from smartcash_format.spec.entries import EntryMachine
from smartcash_format.spec.pickles import TensorRef, TorchFile, read_program
from smartcash_format.spec.stretches import forget_stretches
from smartcash_format.torch_io.archive import to_archive
from smartcash_format.torch_io.dtypes import DTYPES
from smartcash_format.torch_io.state import CLASSIC, encode
from tests.spec.torch_files import code_of, file_of, scan
from tests.torch_io.zoo import OPTIMIZERS, SCHEDULERS, fresh, scheduler, step_scheduler, stepped

pytestmark = pytest.mark.torch


def saved(value: Any) -> bytes:
    target = io.BytesIO()
    torch.save(value, target)
    return target.getvalue()


def loaded(file: bytes) -> Any:
    return torch.load(io.BytesIO(file), weights_only=True, map_location="cpu")


def written(value: Any) -> bytes:
    """A file as this package writes one."""
    program, storages = to_archive(encode(value, "state"))
    return file_of(program.data, {storage.key: bytes(storage.read()) for storage in storages})


def differences(found: Any, live: Any, where: str = "state") -> Iterator[str]:
    """Where the inert value and what torch loads differ."""
    if isinstance(found, TensorRef):
        seen = (found.dtype, found.shape, found.stride, found.offset, found.numel)
        name = DTYPES.get(live.dtype, "C128")
        due = (name, tuple(live.shape), live.stride(), live.storage_offset(), live.numel())
        if seen != due:
            yield f"{where}: {seen} is {due}"
    elif isinstance(found, dict) and isinstance(live, dict):
        if list(found) != list(live):
            yield f"{where}: {list(found)} is {list(live)}"
            return
        for key in found:
            yield from differences(found[key], live[key], f"{where}[{key!r}]")
    elif isinstance(found, list | tuple) and type(found) is type(live) and len(found) == len(live):
        for index, pair in enumerate(zip(found, live, strict=True)):
            yield from differences(*pair, f"{where}[{index}]")
    elif repr(found) != repr(live):
        yield f"{where}: {found!r} is {live!r}"


def check(file: bytes) -> TorchFile:
    found, problems = scan(file)
    assert problems == ()
    assert found is not None
    assert list(differences(found.value, loaded(file))) == []
    return found


ROADS = ("read_entry", "read_tensor", "read_integers")


@pytest.fixture(autouse=True)
def nothing_is_known() -> None:
    forget_stretches()


def close(patch: pytest.MonkeyPatch, *roads: str) -> None:
    """From now on nothing is read in one go: every tensor is made opcode by opcode."""
    for road in roads or ROADS:
        patch.setattr(EntryMachine, road, lambda self, at: 0)


@pytest.mark.parametrize("write", [saved, written])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_every_optimizer_passes(name: str, write: Callable[[Any], bytes]) -> None:
    found = check(write(stepped(name).optimizer.state_dict()))
    assert found.globals <= {
        "collections.OrderedDict",
        "torch._utils._rebuild_tensor_v2",
        "torch.FloatStorage",
        "torch.LongStorage",
    }


@pytest.mark.parametrize("write", [saved, written])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_state_of_every_scheduler_passes(name: str, write: Callable[[Any], bytes]) -> None:
    live = scheduler(name, fresh("SGD").optimizer)
    step_scheduler(live)
    check(write(live.state_dict()))


def large_state(parameters: int = 40) -> dict[str, Any]:
    """An AdamW state with far more memos than one byte counts."""
    shapes = [(3, 2), (4,), (), (2, 3, 1, 1), (0,), (300,), (1, 2, 1, 2, 1)]
    live = [nn.Parameter(torch.ones(shapes[i % len(shapes)])) for i in range(parameters)]
    for parameter in live:
        parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.AdamW(live, amsgrad=True)
    optimizer.step()
    return optimizer.state_dict()


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


@pytest.mark.no_cover
def test_many_tensors_are_looked_at_in_several_stretches() -> None:
    check(saved([torch.zeros(i % 3) for i in range(4_500)]))


def test_tensors_of_every_dtype_and_layout_pass() -> None:
    base = torch.arange(24.0)
    check(
        saved(
            {
                "dtypes": [torch.zeros(3, dtype=dtype) for dtype in CLASSIC],
                "views": [base, base[3:7], base[::5], base.view(4, 6).t(), base.view(2, 3, 4)],
                "empty": [torch.zeros(0), torch.zeros(3, 0), torch.zeros(0, 5)[:, 2:]],
                "scalars": [torch.tensor(1.0), base[7]],
                "gradients": [torch.ones(2, requires_grad=True)],
                "steps": torch.as_strided(base, (3, 3), (4, 1), 1),
                "long": torch.zeros(70_000),
            }
        )
    )  # fmt: skip


def test_one_tensor_twice_is_one_storage() -> None:
    one = torch.ones(3)
    state = {"a": one, "b": one, "c": one.detach(), "d": one[1:]}
    for _ in range(2):
        for write in (saved, written):
            check(write(state))
        state |= {f"{i}": torch.ones(i) for i in range(60)} | {"e": one.detach(), "f": one[:2]}


def test_state_of_loops_passes() -> None:
    check(
        written(
            {
                "python": random.getstate(),
                "torch": torch.get_rng_state(),
                "scaler": torch.amp.GradScaler("cpu").state_dict(),
                "odd": {1j, b"bytes", torch.Size([1, 2]), torch.float16},
                "counter": Counter([30, 80]),
                "ordered": OrderedDict(a=OrderedDict()),
            }
        )
    )


# ------------------------------------------------------------------------------------- attacks


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (lambda: nn.Linear(2, 2), "pickle-global"),
        (lambda: nn.Linear(2, 2).state_dict(), "pickle-opcode"),
        (lambda: nn.Parameter(torch.ones(2)), "pickle-global"),
        (lambda: torch.zeros(1).expand(1 << 40), "pickle-tensor"),
        (lambda: torch.zeros(4)[:1].expand(3), "pickle-tensor"),
        (lambda: torch.eye(2).to_sparse(), "pickle-global"),
        (lambda: torch.zeros(2, dtype=torch.uint16), "pickle-global"),
        (lambda: torch.zeros(2, device="meta"), "pickle-global"),
        (lambda: torch.zeros(2, dtype=torch.complex64).conj(), "pickle-tensor"),
        (lambda: torch.ones(2).untyped_storage(), "pickle-global"),
        (lambda: torch.ones(2).storage(), "pickle-structure"),  # type: ignore[no-untyped-call]
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "pickle-global"),
        (lambda: torch.device("cpu"), "pickle-global"),
        (lambda: torch.Size([1]), "pickle-global"),
        (lambda: torch.float32, "pickle-global"),
        (lambda: bytearray(4), "pickle-global"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_what_torch_writes_with_more_than_the_allow_list_is_refused(
    value: Callable[[], Any], code: str
) -> None:
    assert code_of(saved({"a": value()})) == code


def test_older_formats_and_programs_are_named(tmp_path: Any) -> None:
    target = io.BytesIO()
    torch.save({"a": torch.ones(2)}, target, _use_new_zipfile_serialization=False)
    assert code_of(target.getvalue()) == "archive-format"


SAMPLE = saved(large_state(12))
PROGRAM_AT = SAMPLE.index(b"\x80\x02")
PROGRAM_END = SAMPLE.index(b"PK\x07\x08", PROGRAM_AT)


def test_a_truncated_file_is_refused() -> None:
    for size in [*range(300), *range(300, len(SAMPLE), 97), len(SAMPLE) - 1]:
        assert code_of(SAMPLE[:size]) is not None


@given(
    at=st.integers(0, len(SAMPLE) - 1) | st.integers(PROGRAM_AT, PROGRAM_END),
    bits=st.integers(1, 255),
)
def test_a_flipped_byte_is_refused_or_loaded_alike(at: int, bits: int) -> None:
    file = bytearray(SAMPLE)
    file[at] ^= bits
    found, problems = scan(bytes(file))
    assert (found is None) == bool(problems)
    if found is not None:
        check(bytes(file))


@given(
    at=st.integers(PROGRAM_AT, PROGRAM_END),
    other=st.integers(PROGRAM_AT, PROGRAM_END),
    length=st.integers(1, 8),
)
def test_bytes_copied_over_others_are_refused_or_loaded_alike(
    at: int, other: int, length: int
) -> None:
    program = bytearray(SAMPLE[PROGRAM_AT:PROGRAM_END])
    piece = program[other - PROGRAM_AT :][:length]
    program[at - PROGRAM_AT : at - PROGRAM_AT + len(piece)] = piece
    file = SAMPLE[:PROGRAM_AT] + program[: PROGRAM_END - PROGRAM_AT] + SAMPLE[PROGRAM_END:]
    file = file[: len(SAMPLE)]
    quick, problems = scan(file)
    assert (quick is None) == bool(problems)
    with pytest.MonkeyPatch.context() as patch:
        close(patch)
        slow, _ = scan(file)
    assert quick == slow
    if quick is not None:
        check(file)


# ------------------------------------------------------------------------------------ two roads

# Most of its memos are beyond the 256th, where tensors are read in one go.
_MADE, _STORAGES = to_archive(encode(large_state(24), "state"))
LARGE = _MADE.data
LARGE_STORAGES = {storage.key: storage.size_bytes for storage in _STORAGES}


def both_roads(program: bytes) -> tuple[Any, Any]:
    """What is read in one go, and opcode by opcode; None for what is refused.

    What is read in one go is the same whether its stretch is known from another program or not.
    """
    forget_stretches()
    quick, _ = read_program(program, where="data.pkl", storages=LARGE_STORAGES)
    forget_stretches()
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
