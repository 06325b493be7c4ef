"""Which names and shapes no tensor may have, in a header, in tensors.json and before a save."""

from __future__ import annotations

import re
from typing import Final

from smartcash_format.spec import limits

# 8 bytes for the widest element: the bytes are countable in 64 bits as well.
_ELEMENTS: Final = limits.INTEGER_MAX // 8
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# What leads out of a directory, on one system or another: a program that unpacks tensors into files
# of their names would write elsewhere. A segment of torch's own names has no points.
_OUTSIDE: Final = re.compile(r"\A/|\\|\A[A-Za-z]:/|(?:\A|/)\.\.(?:/|\Z)")


def name_fault(name: str) -> str | None:
    """Why a tensor may not have this name, or None."""
    if not name:
        return "is an empty name"
    if len(name) * 4 > limits.NAME_BYTES:
        size_bytes = len(name.encode("utf-8", "surrogatepass"))
        if size_bytes > limits.NAME_BYTES:
            return f"is a name of {size_bytes:,} bytes; at most {limits.NAME_BYTES:,} are allowed"
    if not name.isprintable() and _CONTROL.search(name):
        return "is a name with control characters"
    if ("/" in name or "\\" in name or name == "..") and _OUTSIDE.search(name):
        return "is a name that is a path out of its directory"
    return None


def shape_fault(shape: object) -> str | None:
    """Why this is no shape, or None: few dimensions, none negative, countable in 64 bits."""
    if not isinstance(shape, list):
        return "is no list"
    if len(shape) > limits.DIMENSIONS:
        return f"has {len(shape):,} dimensions; at most {limits.DIMENSIONS} are allowed"
    elements = 1
    for dim in shape:
        if type(dim) is not int or not 0 <= dim <= limits.INTEGER_MAX:
            return "must hold integers of 0 and above, within 64 bits"
        # Zeros are left out: torch multiplies the others for the strides, and wraps around.
        elements *= dim or 1
    if elements > _ELEMENTS:
        return "has a product beyond what 64 bits count"
    return None
