"""The values of a torch file from its static reading: tensors made from where it found them.

No pickle is executed for it, not even by torch's restricted reader: what the file holds is known
already, as data (decision 0021).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

from smartcash_format.spec.pickle_machine import COUNTER, ORDERED_DICT, REBUILD, Name
from smartcash_format.spec.pickles import TensorRef, TorchFile
from smartcash_format.torch_io.dtypes import TORCH_DTYPES

_DICTS: Final[Mapping[Name | None, type]] = {ORDERED_DICT: OrderedDict, COUNTER: Counter}
# safetensors has no name for the last.
_DTYPES: Final = {**TORCH_DTYPES, "C128": torch.complex128}


# Bytes of the file, from a place on and so many, as uint8 in memory that no file backs.
Memory = Callable[[int, int], torch.Tensor]


def values(file: TorchFile, memory: Memory) -> Any:
    """What `torch.load(weights_only=True, map_location="cpu")` gives for the file of this memory.

    Tensors that share a storage in the file share memory.
    """
    return _Values(file, memory).value(file.value)


class _Values:
    """One reading: what stands in two places is made once."""

    def __init__(self, file: TorchFile, memory: Memory) -> None:
        self._file = file
        self._memory = memory
        self._storages: dict[str, torch.Tensor] = {}
        self._done: dict[int, Any] = {}

    def value(self, form: Any) -> Any:
        kind = type(form)
        if kind is not dict and kind is not list and kind is not tuple and kind is not TensorRef:
            return form
        if id(form) not in self._done:
            self._done[id(form)] = self._made(form, kind)
        return self._done[id(form)]

    def _made(self, form: Any, kind: type) -> Any:
        if kind is TensorRef:
            return self._tensor(form)
        if kind is dict:
            items = {key: self.value(item) for key, item in form.items()}
            return _DICTS.get(self._noted(form), dict)(items)
        return kind(self.value(item) for item in form)

    def _noted(self, form: object) -> Name | None:
        return self._file.kinds.get(id(form), (form, None))[1]

    def _tensor(self, ref: TensorRef) -> torch.Tensor:
        flat = self._storages.get(ref.storage_key)
        if flat is None:
            flat = self._storages[ref.storage_key] = self._storage(ref)
        if ref.offset == 0 and ref.numel == flat.numel() and _is_row_major(ref):
            tensor = flat.view(ref.shape)
        else:
            tensor = torch.as_strided(flat, ref.shape, ref.stride, ref.offset)
        return tensor.requires_grad_() if self._noted(ref) is REBUILD else tensor

    def _storage(self, ref: TensorRef) -> torch.Tensor:
        # As bytes first: a foreign file may place a storage where its dtype is not aligned.
        return self._memory(*self._file.storages[ref.storage_key]).view(_DTYPES[ref.dtype])


def _is_row_major(ref: TensorRef) -> bool:
    expected = 1
    for size, stride in zip(reversed(ref.shape), reversed(ref.stride), strict=True):
        if stride != expected:
            return False
        expected *= size
    return True
