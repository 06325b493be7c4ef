"""What the last save of a manager laid out, taken up again where nothing but values has changed.

A training saves the same tensors at every epoch. To take their state apart, to write the program of
a torch file and to place a thousand records takes longer than to copy them, and all of it depends
on names, dtypes, shapes and plain values alone (docs/decisions/0046). A trace has exactly these:
what has the same trace as last time has the same layout. Only the values of floats may differ,
which stand in a program at known places.

Nothing here holds a tensor or another live object.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch

from smartcash_format.disk.parts import (
    Constant,
    Plan,
    Source,
    StorageSource,
    TensorSource,
)
from smartcash_format.torch_io.dtypes import Region
from smartcash_format.torch_io.plain_tensor import own_memory
from smartcash_format.torch_io.program import WORDS, Program
from smartcash_format.torch_io.state import CLASSIC, DEPTH

_SCALARS: Final = frozenset({int, bool, type(None)})


class Trace(NamedTuple):
    """All that a layout depends on, then the live values that it is filled with, in order.

    `memories` has the address and the storage of each tensor.
    """

    tokens: list[Any]
    memories: list[tuple[int, torch.UntypedStorage]]
    floats: list[float]


def trace_state(value: object) -> Trace | None:
    """The trace of a state that has no form but its own: dicts, lists, tuples, scalars and tensors.

    None for any other, and where two tensors have one memory.
    """
    trace = Trace([], [], [])
    seen = {id(word): place for place, word in enumerate(WORDS)}
    return trace if _trace(value, trace, seen, 1) and _is_each_apart(trace) else None


def trace_tensors(entries: Mapping[str, Any]) -> Trace | None:
    """The trace of a state dict of tensors that each have memory of their own, or None."""
    trace = Trace([], [], [])
    tokens, memories, _ = trace
    for name, value in entries.items():
        if not isinstance(value, torch.Tensor) or (memory := own_memory(value)) is None:
            return None
        tokens += (name, value.dtype, value.shape)
        memories.append(memory)
    return trace if _is_each_apart(trace) else None


def _trace(value: Any, trace: Trace, seen: dict[int, int], depth: int) -> bool:
    kind = type(value)
    tokens, memories, floats = trace
    if kind is torch.Tensor:
        if value.dtype not in CLASSIC or (memory := own_memory(value)) is None:
            return False
        # An axis of one element may have any stride, and the program has what it has.
        tokens += (value.dtype, value.shape, value.stride())
        memories.append(memory)
    elif kind is float:
        tokens.append(float)
        floats.append(value)
    elif kind in _SCALARS:
        tokens += (kind, value)
    elif kind is str:
        # Texts that are one object are written once, those that are only alike are not.
        tokens += (str, value, seen.setdefault(id(value), len(seen)))
    elif (place := seen.get(id(value))) is not None:
        # What stands in two places is written once.
        tokens += (Trace, place)
    elif depth > DEPTH:
        return False
    elif kind is dict:
        seen[id(value)] = len(seen)
        tokens += (dict, len(value))
        for key, item in value.items():
            if type(key) is str:
                tokens += (str, key, seen.setdefault(id(key), len(seen)))
            elif type(key) is int:
                tokens += (int, key)
            else:
                return False
            if not _trace(item, trace, seen, depth + 1):
                return False
    elif kind is list or kind is tuple:
        seen[id(value)] = len(seen)
        tokens += (kind, len(value))
        return all(_trace(item, trace, seen, depth + 1) for item in value)
    else:
        return False
    return True


def _is_each_apart(trace: Trace) -> bool:
    return len({address for address, _ in trace.memories}) == len(trace.memories)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    tokens: list[Any]
    key: object
    program: Program
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    tokens: list[Any]
    key: object
    forms: Sequence[TensorSource]
    plans: Sequence[Plan]


class Recall:
    """The layouts of the last save: of torch files by their name, of weight sets by theirs."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}
        self._weights: dict[str, _Weights] = {}

    def keep(self, names: Collection[str]) -> None:
        """Forgets the weight sets of other names: a training may give each save its own."""
        self._weights = {name: self._weights[name] for name in names if name in self._weights}

    def state(self, file: str, trace: Trace, key: object) -> tuple[Program, Plan] | None:
        """The program and the plan of a torch file, filled with what is live now.

        `key` is whatever else they depend on. None where the last save's are of no use.
        """
        known = self._states.get(file)
        if known is None or known.key != key or known.tokens != trace.tokens:
            return None
        program = known.program.with_floats(trace.floats)
        live = iter(trace.memories)
        sources: list[Source] = []
        for _, _, size_bytes, source, _ in known.plan.pieces:
            if isinstance(source, StorageSource):
                address, storage = next(live)
                region = Region(address, size_bytes, storage)
                source = StorageSource(source.key, size_bytes, region, False, address)
            elif source.read() == known.program.data:
                source = Constant(data=program.data)
            sources.append(source)
        return program, known.plan.with_sources(sources)

    def note_state(
        self, file: str, trace: Trace, key: object, program: Program, plan: Plan
    ) -> None:
        """Remembers the layout of a torch file, if it holds what the trace has and nothing else."""
        storages = sum(isinstance(source, StorageSource) for _, _, _, source, _ in plan.pieces)
        if storages != len(trace.memories) or len(program.floats) != len(trace.floats):
            return
        self._states[file] = _State(
            tokens=trace.tokens, key=key, program=program, plan=_without_storages(plan)
        )

    def weights(
        self, name: str, trace: Trace, key: object
    ) -> tuple[Sequence[TensorSource], Sequence[Plan]] | None:
        """The tensors of a weight set and the plans of its files, filled with what is live now."""
        known = self._weights.get(name)
        if known is None or known.key != key or known.tokens != trace.tokens:
            return None
        tensors = {
            form.name: TensorSource(
                form.name, form.dtype, form.shape, form.size_bytes,
                Region(address, form.size_bytes, storage), False, form.measure, address,
            )
            for form, (address, storage) in zip(known.forms, trace.memories, strict=True)
        }  # fmt: skip
        return tuple(tensors.values()), [_filled(plan, tensors) for plan in known.plans]

    def note_weights(
        self,
        name: str,
        trace: Trace,
        key: object,
        tensors: Sequence[TensorSource],
        plans: Sequence[Plan],
    ) -> None:
        """Remembers the layout of a weight set whose tensors are those of the trace, in order."""
        forms = {tensor.name: tensor._replace(read=_unread) for tensor in tensors}
        self._weights[name] = _Weights(
            tokens=trace.tokens,
            key=key,
            forms=[*forms.values()],
            plans=[_filled(plan, forms) for plan in plans],
        )


def _filled(plan: Plan, tensors: Mapping[str, TensorSource]) -> Plan:
    """The plan of a weights file with these tensors, found by their names."""
    return plan.with_sources(
        [
            tensors[source.name] if isinstance(source, TensorSource) else source
            for _, _, _, source, _ in plan.pieces
        ]
    )


def _without_storages(plan: Plan) -> Plan:
    return plan.with_sources(
        [
            source._replace(read=_unread) if isinstance(source, StorageSource) else source
            for _, _, _, source, _ in plan.pieces
        ]
    )


def _unread() -> bytes:
    raise AssertionError("a layout has no bytes")
