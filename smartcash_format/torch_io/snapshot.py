"""A copy of everything that a save will write, so that training may go on while it is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import torch

from smartcash_format.disk.parts import Constant, Piece, Plan, TensorSource, size_of
from smartcash_format.torch_io.collect import Collected
from smartcash_format.torch_io.dtypes import bytes_of
from smartcash_format.torch_io.weights import WeightSetSource

# So that a view of any dtype is aligned.
_ALIGNMENT: Final = 64
# From here on torch's copy, on all cores, gains more than its call costs.
_LARGE_BYTES: Final = 1 << 18


class Buffers:
    """Host memory for one copy, kept from save to save: the pages are there the second time."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)

    def take(self, size_bytes: int) -> torch.Tensor:
        """This many bytes; what was taken before is no longer anyone's."""
        if self._memory.numel() < size_bytes:
            self._memory = torch.empty(0, dtype=torch.uint8)  # never two copies at a time
            self._memory = torch.empty(size_bytes, dtype=torch.uint8)
        return self._memory


def snapshot(collected: Collected, buffers: Buffers) -> Collected:
    """The same with bytes of its own: nothing of it holds a live object any more."""
    plans = [part.plan() for part in collected.parts]
    count = sum(len(plan.pieces) for plan in plans)
    copier = _Copier(buffers.take(size_of(plans) + _ALIGNMENT * (count + 1)))
    copied = tuple(copier.copy(plan) for plan in plans)
    copier.finish()
    sets = tuple(_without_live_tensors(each, copier.tensors) for each in collected.sets)
    return replace(collected, parts=copied, sets=sets)


def _without_live_tensors(
    source: WeightSetSource, copied: dict[int, TensorSource]
) -> WeightSetSource:
    return replace(source, tensors=tuple(copied[id(each)] for each in source.tensors), state={})


class _Copier:
    """Copies pieces one behind the other; the large ones together, when all have their place."""

    def __init__(self, memory: torch.Tensor) -> None:
        self.tensors: dict[int, TensorSource] = {}
        self._memory = memory
        self._bytes = bytes_of(memory)
        self._at = 0
        self._targets: list[torch.Tensor] = []
        self._sources: list[torch.Tensor] = []

    def copy(self, plan: Plan) -> Plan:
        return replace(plan, pieces=[self._piece(piece) for piece in plan.pieces])

    def finish(self) -> None:
        if self._targets:
            torch._foreach_copy_(self._targets, self._sources)

    def _piece(self, piece: Piece) -> Piece:
        offset, start, size_bytes, source, head = piece
        if isinstance(source, Constant):
            return piece
        begin, end = self._at, self._at + size_bytes
        target = self._bytes[begin:end]
        if size_bytes:
            self._fill(begin, end, target, source.read(), is_copy=source.copies)
        self._at = -(-end // _ALIGNMENT) * _ALIGNMENT
        copied = source._replace(read=lambda: target, copies=False)
        if isinstance(copied, TensorSource):
            self.tensors[id(source)] = copied
        return Piece(offset, start, size_bytes, copied, head)

    def _fill(self, begin: int, end: int, target: memoryview, data: Any, *, is_copy: bool) -> None:
        # A copy is not kept: one at a time is enough.
        if end - begin < _LARGE_BYTES or is_copy:
            target[:] = memoryview(data).cast("B")
        else:
            self._targets.append(self._memory[begin:end])
            self._sources.append(torch.frombuffer(data, dtype=torch.uint8))
