"""A copy of everything that a save will write, so that training may go on while it is written."""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import torch

from smartcash_format.disk.parts import (
    Constant,
    Piece,
    Plan,
    StorageSource,
    TensorSource,
    size_of,
)
from smartcash_format.torch_io.collect import Collected
from smartcash_format.torch_io.collector import collector_paused
from smartcash_format.torch_io.dtypes import bytes_of
from smartcash_format.torch_io.weights import WeightSetSource

# So that a view of any dtype is aligned.
_ALIGNMENT: Final = 64
# Copied in stretches of this size by several threads; what is smaller is copied at once.
_LARGE_BYTES: Final = 4 << 20
# More threads gain nothing: the memory is the limit.
_THREADS: Final = 4


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
    """The same with bytes of its own: nothing of it holds a live object any more."""
    plans = [part.plan() for part in collected.parts]
    count = sum(len(plan.pieces) for plan in plans)
    copier = _Copier(buffers.take(size_of(plans) + _ALIGNMENT * (count + 1)))
    with collector_paused():
        copied = tuple(copier.copy(plan) for plan in plans)
    copier.finish()
    sets = tuple(_without_live_tensors(each, copier.tensors) for each in collected.sets)
    return replace(collected, parts=copied, sets=sets)


def _without_live_tensors(
    source: WeightSetSource, copied: dict[int, TensorSource]
) -> WeightSetSource:
    return replace(source, tensors=tuple(copied[id(each)] for each in source.tensors), state={})


class _Copier:
    """Copies pieces one behind the other; the large ones when all have their place, by threads.

    Not by torch, whose threads wait for each other at full speed: beside busy data loaders a copy
    would take ten times as long.
    """

    def __init__(self, memory: memoryview) -> None:
        self.tensors: dict[int, TensorSource] = {}
        self._memory = memory
        self._at = 0
        self._large: list[tuple[memoryview, memoryview]] = []

    def copy(self, plan: Plan) -> Plan:
        return replace(plan, pieces=[self._piece(piece) for piece in plan.pieces])

    def finish(self) -> None:
        """Copies what was left for the end."""
        threads = min(_THREADS, os.cpu_count() or 1, len(self._large))
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(_move, self._large))
        else:
            list(map(_move, self._large))

    def _piece(self, piece: Piece) -> Piece:
        offset, start, size_bytes, source, head = piece
        if isinstance(source, Constant):
            return piece
        target = self._memory[self._at : self._at + size_bytes]
        self._at = -(-(self._at + size_bytes) // _ALIGNMENT) * _ALIGNMENT
        if size_bytes:
            data = memoryview(source.read()).cast("B")
            # A copy is not kept: one at a time is enough.
            if size_bytes < _LARGE_BYTES or source.copies:
                target[:] = data
            else:
                self._large += _stretches(target, data)
        return Piece(offset, start, size_bytes, self._copied(source, target), head)

    def _copied(
        self, source: TensorSource | StorageSource, target: memoryview
    ) -> TensorSource | StorageSource:
        def read() -> memoryview:
            return target

        if isinstance(source, StorageSource):
            return StorageSource(source.key, source.size_bytes, read)
        name, dtype, shape, size_bytes, _, _, measure = source
        copied = TensorSource(name, dtype, shape, size_bytes, read, False, measure)
        self.tensors[id(source)] = copied
        return copied


def _stretches(target: memoryview, data: memoryview) -> list[tuple[memoryview, memoryview]]:
    begins = range(0, len(data), _LARGE_BYTES)
    return [(target[at : at + _LARGE_BYTES], data[at : at + _LARGE_BYTES]) for at in begins]


def _move(stretch: tuple[memoryview, memoryview]) -> None:
    target, data = stretch
    # A slice assignment would hold the other threads up.
    ctypes.memmove(_address(target), _address(data), len(data))


def _address(data: memoryview) -> int:
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(data))
