"""The dtypes that torch and safetensors have in common, and the raw bytes of a tensor."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import torch

_SPELLING: Final = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
    "int32": "I32", "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32",
    "uint16": "U16", "uint8": "U8", "bool": "BOOL", "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3", "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0", "float4_e2m1fn_x2": "F4",
}  # fmt: skip
# Each dtype of torch that safetensors has, and the other way round. complex128 has none.
DTYPES: Final[Mapping[torch.dtype, str]] = MappingProxyType(
    {getattr(torch, name): text for name, text in _SPELLING.items() if hasattr(torch, name)}
)
TORCH_DTYPES: Final[Mapping[str, torch.dtype]] = MappingProxyType(
    {text: dtype for dtype, text in DTYPES.items()}
)
# Two elements of 4 bits lie in one of torch's: safetensors counts each.
_PACKED: Final[Mapping[str, int]] = MappingProxyType({"F4": 2})


def file_shape(dtype: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape in a safetensors file of a tensor that has this shape in torch."""
    packed = _PACKED.get(dtype, 1)
    return (*shape[:-1], shape[-1] * packed) if packed > 1 and shape else tuple(shape)


def torch_shape(dtype: str, shape: Sequence[int]) -> tuple[int, ...] | None:
    """The shape in torch of a tensor that has this shape in a safetensors file; None if it has
    none, as for an odd number of elements of 4 bits.
    """
    packed = _PACKED.get(dtype, 1)
    if packed == 1:
        return tuple(shape)
    if not shape or shape[-1] % packed:
        return None
    return (*shape[:-1], shape[-1] // packed)


def is_plain_memory(tensor: torch.Tensor) -> bool:
    """Whether the elements lie in this process's memory as a file has them."""
    return tensor.is_cpu and tensor.is_contiguous() and not (tensor.is_conj() or tensor.is_neg())


def on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """The values as one contiguous CPU tensor: the same memory where it is one, else a copy."""
    # Most are: a state has thousands, and each call of torch takes its time.
    if is_plain_memory(tensor):
        return tensor
    plain = tensor.detach().resolve_conj().resolve_neg()
    return plain.to("cpu").contiguous()


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a dense CPU tensor, not copied; the view keeps that memory alive."""
    # The storage: `tensor.data = ...` gives the tensor another one, and frees this.
    return region_of(tensor)()


class Region:
    """Memory of this process: a call gives a view of it, which keeps its owner alive."""

    # A save makes thousands: a partial of a function takes four times the room.
    __slots__ = ("address", "owner", "size_bytes")

    def __init__(self, address: int, size_bytes: int, owner: object) -> None:
        self.address = address
        self.size_bytes = size_bytes
        self.owner = owner

    def __call__(self) -> memoryview:
        return bytes_at(self.address, self.size_bytes, self.owner)


def region_of(tensor: torch.Tensor) -> Region:
    """The memory that a dense CPU tensor has today.

    It stays what it is: `tensor.data = ...` gives the tensor another one.
    """
    return Region(tensor.data_ptr(), tensor.nbytes, tensor.untyped_storage())


def bytes_at(address: int, size_bytes: int, owner: object = None) -> memoryview:
    """Memory of this process, not copied; the view keeps its owner alive."""
    if not size_bytes:
        return memoryview(b"")
    # numpy may be absent, and has no bfloat16.
    memory: Any = (ctypes.c_ubyte * size_bytes).from_address(address)
    memory.owner = owner
    return memoryview(memory).cast("B")
