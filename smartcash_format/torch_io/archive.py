"""The pickle program of a torch file, and the storages that it names.

Only the globals of FORMAT.md's allow-list are written, and torch is asked for nothing but the
tensors' memory. Tensors that are one share their storage in the file; of a view
only its own elements are stored, never its neighbours.
"""

from __future__ import annotations

from typing import Any

import torch

from smartcash_format.disk.parts import StorageSource
from smartcash_format.torch_io.dtypes import bytes_of
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
        dense = value if _is_dense(value) else value.resolve_conj().resolve_neg().contiguous()
        key = str(len(self.sources))
        elements = dense.numel()
        self.sources.append(
            StorageSource(
                key=key,
                size_bytes=elements * dense.element_size(),
                read=lambda: _memory_of(dense),
            )
        )
        return Placed(
            storage_type=CLASSIC[value.dtype],
            key=key,
            elements=elements,
            shape=tuple(dense.shape),
            strides=tuple(dense.stride()),
        )


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
