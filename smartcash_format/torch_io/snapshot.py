"""A copy of everything that a save will write, so that training may go on while it is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch

from smartcash_format.disk.parts import Constant, Piece, Plan, size_of
from smartcash_format.torch_io.collect import Collected
from smartcash_format.torch_io.dtypes import bytes_of

# So that a view of any dtype is aligned.
_ALIGNMENT: Final = 64


class Buffers:
    """Host memory for one copy, kept from save to save: the pages are there the second time."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)

    def take(self, size_bytes: int) -> memoryview:
        """This many bytes; what was taken before is no longer anyone's."""
        if self._memory.numel() < size_bytes:
            self._memory = torch.empty(0, dtype=torch.uint8)  # never two copies at a time
            self._memory = torch.empty(size_bytes, dtype=torch.uint8)
        return bytes_of(self._memory)


def snapshot(collected: Collected, buffers: Buffers) -> Collected:
    """The same parts with bytes of their own: nothing of it reads a live tensor any more."""
    plans = [part.plan() for part in collected.parts]
    count = sum(len(plan.pieces) for plan in plans)
    copier = _Copier(buffers.take(size_of(plans) + _ALIGNMENT * (count + 1)))
    return replace(collected, parts=tuple(copier.copy(plan) for plan in plans))


class _Copier:
    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._at = 0

    def copy(self, plan: Plan) -> Plan:
        return replace(plan, pieces=[self._piece(piece) for piece in plan.pieces])

    def _piece(self, piece: Piece) -> Piece:
        if isinstance(piece.source, Constant):
            return piece
        target = self._memory[self._at : self._at + piece.size_bytes]
        if piece.size_bytes:
            target[:] = memoryview(piece.source.read()).cast("B")
        self._at += -(-piece.size_bytes // _ALIGNMENT) * _ALIGNMENT
        return piece._replace(source=replace(piece.source, read=lambda: target))
