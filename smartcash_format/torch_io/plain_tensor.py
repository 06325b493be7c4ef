"""A tensor that a checkpoint can hold: with values in memory of its own, and without what is not.

Refused, each with a sentence that says what to do: lazy, meta, sparse, quantized and nested
tensors, tensors spread over processes, freed storages, subclasses that compute their values. A
subclass that only adds methods is stored by its values.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from smartcash_format.errors import UnsavableStateError

_PLAIN: Final = frozenset({torch.Tensor, nn.Parameter})


def is_simple(value: torch.Tensor) -> bool:
    """Whether a tensor is what most are: its elements lie side by side in this process's memory.

    Of such a tensor nothing can be refused but its dtype and its shape, and its memory is what a
    file holds.
    """
    if type(value) not in _PLAIN or value.is_nested or value.layout is not torch.strided:
        return False
    if not value.is_cpu or value.is_quantized or not value.is_contiguous():
        return False
    if value.is_conj() or value.is_neg():
        return False
    try:
        storage = value.untyped_storage()
        address, held = storage.data_ptr(), storage.nbytes()
    except RuntimeError:
        return False
    size_bytes = value.nbytes
    end = value.storage_offset() * value.itemsize + size_bytes
    return not size_bytes or (address != 0 and end <= held)


def own_memory(value: torch.Tensor) -> tuple[int, torch.UntypedStorage] | None:
    """The address and the storage of a simple tensor that is all of it; None of any other."""
    # The same questions as above, of which each takes a tenth of a microsecond.
    if (
        type(value) not in _PLAIN
        or value.is_nested
        or value.layout is not torch.strided
        or not value.is_cpu
        or value.is_quantized
        or not value.is_contiguous()
        or value.is_conj()
        or value.is_neg()
        # Of a storage that was cut to this size the rest is gone.
        or value.storage_offset()
    ):
        return None
    try:
        storage = value.untyped_storage()
        address = storage.data_ptr()
        return (address, storage) if address and storage.nbytes() == value.nbytes else None
    except RuntimeError:
        return None


def plain_tensor(value: torch.Tensor, where: str) -> torch.Tensor:
    """The same memory without autograd and subclass.

    Raises UnsavableStateError, with `where` in front, for a tensor that could not be loaded again.
    """
    reason = _refusal(value)
    if reason is None:
        # A state has a thousand tensors, most of them as plain as can be.
        plain = type(value) is torch.Tensor and not value.requires_grad
        tensor = value if plain else value.detach().as_subclass(torch.Tensor)
        reason = _memory_fault(tensor)
    if reason is not None:
        raise refused(value, where, *reason)
    return tensor


def refused(value: object, where: str, what: str, hint: str) -> UnsavableStateError:
    """The error that says what a value is and what to do about it."""
    return UnsavableStateError(f"{where} {what}", where=where, kind=type(value).__name__, hint=hint)


def identity(tensor: torch.Tensor) -> tuple[Any, ...]:
    """What two names of one tensor have in common, and no two tensors."""
    storage = tensor.untyped_storage()
    return (
        storage._cdata, tensor.storage_offset(), tensor.shape, tensor.stride(),
        tensor.dtype, tensor.is_conj(), tensor.is_neg(),
    )  # fmt: skip


def _refusal(value: torch.Tensor) -> tuple[str, str] | None:
    if type(value) not in _PLAIN and (reason := _class_refusal(value)) is not None:
        return reason
    if value.is_nested:
        return "is a nested tensor", "save its parts (unbind()) or to_padded_tensor(...)"
    if value.is_meta:
        return "is on the meta device and has no values", "materialise it: to_empty() and load"
    if value.is_quantized:
        return (
            f"is quantized ({value.dtype})",
            "save int_repr() with scale and zero point, or dequantize()",
        )
    if value.layout is not torch.strided:
        return f"is sparse ({value.layout})", "save to_dense(), or its indices and values"
    return None


def _class_refusal(value: torch.Tensor) -> tuple[str, str] | None:
    if nn.parameter.is_lazy(value):
        return "has no shape yet", "run one forward pass through the lazy module before saving"
    if type(value).__module__.startswith("torch.distributed"):
        return (
            f"is a {type(value).__name__}, spread over several processes",
            (
                "gather it with full_tensor(), or the whole model with "
                "torch.distributed.checkpoint.state_dict.get_model_state_dict"
            ),
        )
    if value.is_nested:
        return "is a nested tensor", "save its parts (unbind()) or to_padded_tensor(...)"
    if type(value).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return (
            f"is a {type(value).__name__}, which computes its values",
            "save the plain tensors that it is made of",
        )
    return None


def _memory_fault(tensor: torch.Tensor) -> tuple[str, str] | None:
    """Why the bytes cannot be read: a freed storage would be read past its end."""
    try:
        storage = tensor.untyped_storage()
        address, size_bytes = storage.data_ptr(), storage.nbytes()
    except RuntimeError:
        return "has no memory of its own", "save the tensor itself, outside of any transform"
    if not tensor.numel():
        return None
    if tensor.is_contiguous():
        reach = tensor.numel() - 1
    else:
        reach = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    needed = (tensor.storage_offset() + reach + 1) * tensor.element_size()
    if not address or needed > size_bytes:
        return "has freed its memory", "gather the full parameters before saving"
    return None
