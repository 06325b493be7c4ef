"""What the header of a safetensors file says of one tensor, and what it may say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from smartcash_format.spec import limits
from smartcash_format.spec.refusal import Refused, shown
from smartcash_format.spec.tensor_faults import name_fault, shape_fault

# Every dtype of safetensors 0.8 and its bits an element, in the order that its writer sorts by,
# last first: descending alignment, so that each tensor starts on a multiple of its element.
DTYPE_BITS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8,
        "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16,
        "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
        "U64": 64,
    }
)  # fmt: skip
_FIELDS: Final = 3


class TensorInfo(NamedTuple):
    """One tensor of a file: dtype as safetensors spells it, bytes [begin, end) of the data."""

    # A tuple, because a header makes hundreds and a frozen dataclass costs three times as much.

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size_bytes(self) -> int:
        """The bytes that the tensor takes in the file."""
        return self.end - self.begin


def read_entry(name: str, entry: Any) -> TensorInfo:
    """The tensor that an entry describes. Raises Refused with the first thing wrong in it."""
    if fault := name_fault(name):
        raise Refused("tensor-name", fault, found=shown(name))
    try:
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        exact = len(entry) == _FIELDS
    except (TypeError, KeyError):
        exact = False
    if not exact:
        message = "must have the fields dtype, shape, data_offsets only"
        raise Refused("header-field", message, found=_fields(entry))
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        spelled = repr(str(dtype)[:40])
        raise Refused("tensor-dtype", f"is unknown: {spelled}", ".dtype", found=spelled)
    if fault := shape_fault(shape):
        raise Refused("tensor-shape", fault, ".shape", found=_short(shape))
    begin, end = _span(offsets)
    bits = math.prod(shape, start=DTYPE_BITS[dtype])
    if bits != (end - begin) * 8:
        due = f"{bits / 8:,g}"
        message = f"gives {end - begin:,} bytes to {dtype} of shape {shape}: {due} are due"
        raise Refused(
            "tensor-size",
            message,
            ".data_offsets",
            found=f"{end - begin:,} bytes",
            expected=f"{due} bytes",
        )
    return TensorInfo(dtype, tuple(shape), begin, end)


def _span(offsets: object) -> tuple[int, int]:
    if isinstance(offsets, list) and len(offsets) == 2:
        begin, end = offsets
        ordered = type(begin) is int and type(end) is int and 0 <= begin <= end
        if ordered and end <= limits.INTEGER_MAX:
            return begin, end
    message = "must be two integers within 64 bits, none negative, the first not the larger"
    raise Refused(
        "tensor-offsets",
        message,
        ".data_offsets",
        found=_short(offsets),
        expected="two positions, the first not the larger",
    )


def _fields(entry: object) -> str:
    return _short(sorted(entry)) if isinstance(entry, dict) else type(entry).__name__


def _short(value: object) -> str:
    text = repr(value[:8] if isinstance(value, list) else value)
    return text[:80] if text.isprintable() else type(value).__name__
