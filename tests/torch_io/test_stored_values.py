"""What is made from a static reading beside what torch loads: values, types, sharing, memory."""

from __future__ import annotations

import io
from collections import Counter, OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import nn

from smartcash_format.spec.pickles import scan_torch_file
from smartcash_format.torch_io.state import decode, encode
from smartcash_format.torch_io.stored_values import Memory, values
from tests.torch_io.scanned import loaded, saved, written
from tests.torch_io.test_program import VALUES as TREES
from tests.torch_io.test_state import VALUES
from tests.torch_io.zoo import OPTIMIZERS, stepped

pytestmark = pytest.mark.torch


def memory_of(file: bytes) -> Memory:
    return lambda begin, count: torch.tensor(list(file[begin : begin + count]), dtype=torch.uint8)


def made(file: bytes) -> Any:
    scanned, problems = scan_torch_file(io.BytesIO(file), len(file), where="state.pt")
    assert scanned is not None, problems
    return values(scanned, memory_of(file))


def assert_same(left: Any, right: Any) -> None:
    """Equal in type, value, order, shape, strides and gradient, all the way down."""
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        for look in (
            torch.Tensor.stride, torch.Tensor.size, torch.Tensor.storage_offset,
            lambda t: (t.dtype, t.requires_grad, t.device),
            lambda t: bytes(t.untyped_storage()),
        ):  # fmt: skip
            assert look(left) == look(right)
    elif isinstance(left, dict):
        assert list(map(repr, left)) == list(map(repr, right))
        for one, other in zip(left.values(), right.values(), strict=True):
            assert_same(one, other)
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        assert repr(left) == repr(right)


def test_every_value_of_a_state_is_what_torch_loads() -> None:
    file = written(VALUES)
    assert_same(made(file), loaded(file))


@given(TREES)
def test_any_state_is_what_torch_loads(value: Any) -> None:
    file = written(value)
    assert_same(made(file), loaded(file))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_every_optimizer_is_what_torch_loads(name: str) -> None:
    file = written(stepped(name).optimizer.state_dict())
    assert_same(made(file), loaded(file))


FOREIGN: list[Any] = [
    OrderedDict(a=Counter(b=2), c=OrderedDict()),
    torch.zeros(3, requires_grad=True),
    {"rows": torch.arange(12.0).view(3, 4)[:, 1:3], "column": torch.arange(6).view(2, 3).t()},
    [torch.ones(2, 2).to(torch.complex128), torch.empty(0, 3), torch.empty(4)[4:], torch.tensor(7)],
    nn.Linear(2, 2).state_dict()["weight"],
]


@pytest.mark.parametrize("value", FOREIGN, ids=range(len(FOREIGN)))
def test_what_torch_writes_itself_is_what_torch_loads(value: Any) -> None:
    file = saved(value)
    assert_same(made(file), loaded(file))


def test_what_shares_memory_shares_it_again() -> None:
    base = torch.arange(6.0)
    shared = [1]
    file = saved({"a": base, "b": base[2:4], "c": base, "d": [shared, shared]})
    scanned, _ = scan_torch_file(io.BytesIO(file), len(file), where="state.pt")
    assert scanned is not None
    found = values(scanned, memory_of(file))
    assert found["a"] is found["c"]
    assert found["d"][0] is found["d"][1]
    assert torch.equal(found["a"], base)
    found["a"][2] = 9
    assert found["b"][0] == 9


def test_what_a_state_held_comes_back_from_what_is_made() -> None:
    value = {"where": {1, 2}, "at": torch.zeros(3, dtype=torch.uint16)}
    found = decode(made(written(value)))
    assert found["where"] == {1, 2}
    assert found["at"].dtype is torch.uint16
    assert encode(found, "state").keys() == value.keys()
