"""Our writer of pickle programs beside Python's own pickler, byte by byte."""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._utils import _rebuild_tensor_v2

from smartcash_format.torch_io.plain_tensor import identity
from smartcash_format.torch_io.program import Placed, write_program

TYPES = {torch.float32: "FloatStorage", torch.int64: "LongStorage", torch.bool: "BoolStorage"}


class Storages:
    """Gives every distinct tensor a key, as both writers need one."""

    def __init__(self) -> None:
        self.known: dict[tuple[Any, ...], Placed] = {}

    def place(self, tensor: torch.Tensor) -> Placed:
        key = identity(tensor)
        if key not in self.known:
            self.known[key] = Placed(
                storage_type=TYPES[tensor.dtype],
                key=str(len(self.known)),
                elements=tensor.numel(),
                shape=tuple(tensor.shape),
                strides=tuple(tensor.stride()),
            )
        return self.known[key]


class Reference(pickle.Pickler):
    def __init__(self, target: io.BytesIO) -> None:
        super().__init__(target, 2, fix_imports=False)
        self.storages = Storages()
        self.rebuilt: dict[str, Any] = {}

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Placed):
            kind = getattr(torch, value.storage_type)
            return ("storage", kind, value.key, "cpu", value.elements)
        return None

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return NotImplemented
        at = self.storages.place(value)
        made: Any = _rebuild_tensor_v2, (at, 0, at.shape, at.strides, False, OrderedDict())
        return self.rebuilt.setdefault(at.key, made)


def reference(value: Any) -> bytes:
    target = io.BytesIO()
    Reference(target).dump(value)
    return target.getvalue()


def ours(value: Any) -> bytes:
    return write_program(value, is_tensor=torch.is_tensor, place=Storages().place).data


LEAVES = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=5)
    | st.integers(min_value=-(1 << 1020), max_value=1 << 1020)
    | st.sampled_from([0, 255, 256, 65_535, 65_536, (1 << 31) - 1, 1 << 31, -1, -(1 << 31)])
    | st.sampled_from([torch.zeros(()), torch.ones(2, 3), torch.zeros(4, dtype=torch.int64)])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4).map(OrderedDict)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_the_bytes_are_those_of_the_pickler(value: Any) -> None:
    assert ours(value) == reference(value)


def test_the_state_of_an_optimizer_has_the_bytes_of_the_pickler() -> None:
    model = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(40)))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    assert ours(state) == reference(state)


@pytest.mark.parametrize("make", [list, tuple])
@pytest.mark.parametrize("last", [True, 1.5, "text", -1])
def test_many_integers_have_the_bytes_of_the_pickler(make: Any, last: object) -> None:
    numbers = [n * n * n - 70_000 for n in range(625)]
    for value in (make(numbers), make([*numbers, last])):
        assert ours([value, value]) == reference([value, value])


def test_what_is_shared_is_written_once() -> None:
    inner, tensor = [1, "text"], torch.arange(3)
    value = {"a": inner, "b": inner, "t": [tensor, tensor, tensor[:], (inner,)]}
    assert ours(value) == reference(value)


@pytest.mark.parametrize("count", [999, 1_001, 2_500])
def test_a_container_of_many_values_is_read_back_equal(count: int) -> None:
    value: dict[str, Any] = {"list": list(range(count)), "dict": {n: str(n) for n in range(count)}}
    value["ordered"] = OrderedDict(value["dict"])
    assert pickle.loads(ours(value)) == value


def test_a_value_without_opcodes_is_refused() -> None:
    with pytest.raises(TypeError, match="set has no opcodes"):
        ours([{1}])


def test_the_form_is_that_of_all_but_the_floats() -> None:
    def form(value: Any) -> bytes:
        return write_program(value, is_tensor=torch.is_tensor, place=Storages().place).form

    assert form({"lr": 0.1, "t": torch.ones(2)}) == form({"lr": math.nan, "t": torch.zeros(2)})
    different = [{"lr": 1}, {"lr": "0.1"}, {"rl": 0.1}, {"lr": [0.1]}, {"lr": torch.ones(2)}]
    assert len({form(value) for value in [{"lr": 0.1}, *different]}) == 1 + len(different)
