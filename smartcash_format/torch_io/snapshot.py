"""A copy of everything that a save will write, so that training may go on while it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import torch

from smartcash_format.disk.write import (
    ArchivePart,
    Part,
    Statistics,
    StorageSource,
    TensorSource,
    WeightsPart,
    size_of,
)
from smartcash_format.torch_io.collect import Collected
from smartcash_format.torch_io.dtypes import TORCH_DTYPES, bytes_of
from smartcash_format.torch_io.statistics import statistics

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
    count = sum(
        len(part.tensors) if isinstance(part, WeightsPart) else len(part.storages)
        for part in collected.parts
        if isinstance(part, WeightsPart | ArchivePart)
    )
    copier = _Copier(buffers.take(size_of(collected.parts) + _ALIGNMENT * (count + 1)))
    return replace(collected, parts=tuple(copier.part(part) for part in collected.parts))


class _Copier:
    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._at = 0

    def part(self, part: Part) -> Part:
        match part:
            case WeightsPart():
                return replace(part, tensors=[self._tensor(tensor) for tensor in part.tensors])
            case ArchivePart():
                return replace(part, storages=[self._storage(each) for each in part.storages])
        return part

    def _tensor(self, source: TensorSource) -> TensorSource:
        data = self._copy(source)
        measure = None if source.measure is None else _measure(data, source.dtype)
        return replace(source, read=lambda: data, measure=measure)

    def _storage(self, source: StorageSource) -> StorageSource:
        data = self._copy(source)
        return replace(source, read=lambda: data)

    def _copy(self, source: TensorSource | StorageSource) -> memoryview:
        target = self._memory[self._at : self._at + source.size_bytes]
        if source.size_bytes:
            target[:] = memoryview(source.read()).cast("B")
        self._at += -(-source.size_bytes // _ALIGNMENT) * _ALIGNMENT
        return target


def _measure(data: memoryview, dtype: str) -> Callable[[], Statistics]:
    def measure() -> Statistics:
        if not data:
            return statistics(torch.empty(0, dtype=TORCH_DTYPES[dtype]))
        return statistics(torch.frombuffer(data, dtype=TORCH_DTYPES[dtype]))

    return measure
