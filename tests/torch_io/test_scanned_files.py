"""What the static reader lets pass, torch loads, and sees alike; with torch's own files."""

from __future__ import annotations

import io
import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from smartcash_format.spec.known_programs import forget_programs
from smartcash_format.torch_io.state import CLASSIC
from tests.spec.torch_files import code_of, scan
from tests.torch_io.scanned import check, close, large_state, saved, written
from tests.torch_io.zoo import OPTIMIZERS, SCHEDULERS, fresh, scheduler, step_scheduler, stepped

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def nothing_is_known() -> None:
    forget_programs()


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
