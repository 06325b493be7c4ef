"""Tensors of an optimizer's state that lie in one memory, stored or live.

A step works in place: two moments in one memory would be updated by each other, and a step count of
two parameters would count twice. No optimizer of torch has such state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import torch

from smartcash_format.spec.problems import Problem
from smartcash_format.spec.tensor_refs import TensorRef


class _Span(NamedTuple):
    """From where to where a tensor reaches in a memory, in elements or bytes of it."""

    memory: str | int
    begin: int
    end: int
    shown: str


def shared_memory(states: Iterable[tuple[str | int, object]], *, where: str) -> Iterator[Problem]:
    """Tensors of these states, given by their parameters, that reach into one another."""
    found = list(_tensors(states))
    if len({_memory(each) for each, *_ in found}) == len(found):
        return
    spans = sorted(_span(each, f"[{of!r}][{name!r}]"[:200]) for each, of, name in found)
    for first, second in pairwise(spans):
        if first.memory == second.memory and second.begin < first.end:
            yield Problem(
                code="optimizer-state",
                where=f"{where}{second.shown}",
                message=f"lies in the same memory as {first.shown}",
            )


def _tensors(
    states: Iterable[tuple[str | int, object]],
) -> Iterator[tuple[TensorRef | torch.Tensor, str | int, object]]:
    for of, state in states:
        for name, value in state.items() if isinstance(state, Mapping) else ():
            for each in value if type(value) is list else (value,):
                if (type(each) is TensorRef and each.numel) or (
                    type(each) is torch.Tensor
                    and each.layout is torch.strided
                    and not each.is_meta
                    and each.numel()
                ):
                    yield each, of, name


def _memory(tensor: TensorRef | torch.Tensor) -> str | int:
    """The stored storage, or where the live one begins: addresses of devices do not meet."""
    if isinstance(tensor, TensorRef):
        return tensor.storage_key
    return tensor.untyped_storage().data_ptr()


def _span(tensor: TensorRef | torch.Tensor, shown: str) -> _Span:
    if isinstance(tensor, TensorRef):
        begin, width, stride = tensor.offset, 1, tensor.stride
    else:
        begin, width, stride = tensor.data_ptr(), tensor.itemsize, tensor.stride()
    reach = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, stride, strict=True))
    return _Span(_memory(tensor), begin, begin + reach * width, shown)
