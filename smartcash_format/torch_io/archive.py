"""The pickle program of a torch file, and the storages that it names.

Only the globals of FORMAT.md's allow-list are written, by Python's own pickler: torch is asked for
nothing but the tensors' memory. Tensors that are one share their storage in the file; of a view
only its own elements are stored, never its neighbours.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch._utils import _rebuild_tensor_v2

from smartcash_format.disk.write import StorageSource
from smartcash_format.torch_io.dtypes import bytes_of
from smartcash_format.torch_io.plain_tensor import identity
from smartcash_format.torch_io.state import CLASSIC

# What torch.save writes; torch's restricted reader knows its opcodes and few others.
PROTOCOL: Final = 2


def to_archive(form: Any) -> tuple[bytes, tuple[StorageSource, ...]]:
    """The program that rebuilds an encoded state, and its storages in order; nothing is copied."""
    target = io.BytesIO()
    pickler = _Pickler(target)
    pickler.dump(form)
    return target.getvalue(), tuple(pickler.storages)


@dataclass(frozen=True, slots=True)
class _Storage:
    kind: type
    key: str
    elements: int


class _Pickler(pickle.Pickler):
    def __init__(self, target: io.BytesIO) -> None:
        # Without fix_imports names stay those of Python 3.
        super().__init__(target, PROTOCOL, fix_imports=False)
        self.storages: list[StorageSource] = []
        self._known: dict[tuple[Any, ...], tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._alive: list[torch.Tensor] = []

    def persistent_id(self, value: Any) -> tuple[Any, ...] | None:
        if isinstance(value, _Storage):
            return ("storage", value.kind, value.key, "cpu", value.elements)
        return None

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return NotImplemented
        key = identity(value)
        if key not in self._known:
            self._known[key] = self._rebuild(value)
        return self._known[key]

    def _rebuild(self, value: torch.Tensor) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # The identity is an address: the tensor must outlive the pickling.
        self._alive.append(value)
        dense = value if _is_dense(value) else value.resolve_conj().resolve_neg().contiguous()
        key = str(len(self.storages))
        self.storages.append(
            StorageSource(
                key=key,
                size_bytes=dense.numel() * dense.element_size(),
                read=lambda: bytes_of(_in_memory_order(dense).to("cpu")),
            )
        )
        storage = _Storage(getattr(torch, CLASSIC[value.dtype]), key, dense.numel())
        shape, strides = tuple(dense.shape), tuple(dense.stride())
        return _rebuild_tensor_v2, (storage, 0, shape, strides, False, OrderedDict())


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


def _in_memory_order(tensor: torch.Tensor) -> torch.Tensor:
    """The elements of a dense tensor as they lie in memory: a flat view of them."""
    return torch.as_strided(tensor, (tensor.numel(),), (1,), tensor.storage_offset())
