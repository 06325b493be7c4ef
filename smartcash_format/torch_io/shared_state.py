"""Tensors of an optimizer's state that lie in one memory.

A step works in place: two moments in one memory would be updated by each other, and a step count of
two parameters would count twice. No optimizer of torch has such state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from smartcash_format.spec.problems import Problem
from smartcash_format.spec.tensor_refs import TensorRef


def shared_memory(states: Iterable[tuple[str | int, object]], *, where: str) -> Iterator[Problem]:
    """Tensors of these states, given by their parameters, that reach into one another."""
    found = list(_tensors(states))
    if len({ref.storage_key for ref, *_ in found}) == len(found):
        return
    spans = sorted((*_span(ref), f"[{of!r}][{name!r}]"[:200]) for ref, of, name in found)
    for (key, _, end, first), (other_key, begin, _, second) in pairwise(spans):
        if key == other_key and begin < end:
            yield Problem(
                code="optimizer-state",
                where=f"{where}{second}",
                message=f"lies in the same memory as {first}",
            )


def _tensors(
    states: Iterable[tuple[str | int, object]],
) -> Iterator[tuple[TensorRef, str | int, object]]:
    for of, state in states:
        for name, value in state.items() if isinstance(state, Mapping) else ():
            for each in value if type(value) is list else (value,):
                if type(each) is TensorRef and each.numel:
                    yield each, of, name


def _span(ref: TensorRef) -> tuple[str, int, int]:
    """The storage, and from which element to which a tensor reaches in it."""
    reach = sum((n - 1) * step for n, step in zip(ref.shape, ref.stride, strict=True))
    return ref.storage_key, ref.offset, ref.offset + reach + 1
