"""The pickle program of a torch file, and the storages that it names.

Only the globals of FORMAT.md's allow-list are written, and torch is asked for nothing but the
tensors' memory. Tensors that are one share their storage in the file; of a view
only its own elements are stored, never its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from smartcash_format.disk.parts import StorageSource
from smartcash_format.torch_io.dtypes import bytes_of, is_plain_memory, region_of
from smartcash_format.torch_io.plain_tensor import identity
from smartcash_format.torch_io.program import Placed, Program, write_program
from smartcash_format.torch_io.state import CLASSIC


def to_archive(form: Any) -> tuple[Program, tuple[StorageSource, ...]]:
    """The program that rebuilds an encoded state, and its storages in order; nothing is copied."""
    storages = _Storages()
    program = write_program(form, is_tensor=torch.is_tensor, place=storages.place)
    return program, tuple(storages.sources)


class _Storages:
    """The storages of one program, each named once."""

    def __init__(self) -> None:
        self.sources: list[StorageSource] = []
        self._known: dict[tuple[Any, ...], Placed] = {}
        # An identity is an address: the tensors must outlive the writing of the program.
        self._alive: list[torch.Tensor] = []

    def place(self, value: torch.Tensor) -> Placed:
        key = identity(value)
        placed = self._known.get(key)
        if placed is None:
            self._alive.append(value)
            placed = self._known[key] = self._new(value)
        return placed

    def _new(self, value: torch.Tensor) -> Placed:
        key = str(len(self.sources))
        size_bytes = value.nbytes
        strides = value.stride()
        if is_plain_memory(value):
            # Of today: data that is replaced meanwhile may have gaps, or lie on top of itself.
            region = region_of(value)
            source = StorageSource(key, size_bytes, region, False, region.address)
        elif _is_dense(value):
            source = StorageSource(key, size_bytes, partial(_memory_of, value), not value.is_cpu)
        else:
            # Made dense when it is written, not before: a copy is in memory as short as can be.
            source = StorageSource(key, size_bytes, partial(_dense_memory_of, value), True)
            strides = _dense_strides(value.shape)
        self.sources.append(source)
        return Placed(CLASSIC[value.dtype], key, value.numel(), tuple(value.shape), strides)


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements lie side by side in some order of the axes, each once."""
    if tensor.is_conj() or tensor.is_neg():
        return False
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def _memory_of(tensor: torch.Tensor) -> memoryview:
    """The elements of a dense tensor as they lie in memory."""
    if tensor.is_cpu:
        return bytes_of(tensor)
    flat = torch.as_strided(tensor, (tensor.numel(),), (1,), tensor.storage_offset())
    return bytes_of(flat.to("cpu"))


def _dense_memory_of(tensor: torch.Tensor) -> memoryview:
    """The elements of any tensor in the order of its axes, as a copy."""
    return _memory_of(tensor.resolve_conj().resolve_neg().contiguous())


def _dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a contiguous tensor of this shape."""
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * max(1, size))
    return tuple(reversed(strides)) if shape else ()
