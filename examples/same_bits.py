"""Whether two states are the same, bit for bit, and how much was compared.

`==` would call -0.0 and 0.0 equal, NaN unequal to itself, and float32 equal to float64; here only
the same type, dtype, shape and bytes are the same.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How many tensors and single values (their elements included) were compared, what differs."""

    tensors: int
    values: int
    differences: tuple[str, ...]


def compare(a: object, b: object) -> Comparison:
    """Compare two states built of mappings, sequences, tensors, arrays and plain values.

    `differences` names the place of each, as `optimizer['state'][3]['exp_avg']` without its root.
    """
    leaves = list(_pairs(a, b, ""))
    return Comparison(
        tensors=sum(isinstance(left, torch.Tensor) for _, left, _ in leaves),
        values=sum(_size(left) for _, left, _ in leaves),
        differences=tuple(place for place, left, right in leaves if _bits(left) != _bits(right)),
    )


def saved_state(checkpoint: Path) -> dict[str, object]:
    """What a checkpoint of the demo's training holds, read by safetensors and torch themselves."""
    return {
        "weights": load_file(checkpoint / "model.safetensors"),
        "averaged weights": load_file(checkpoint / "ema.safetensors"),
        "optimizer": torch.load(checkpoint / "optimizer.pt", weights_only=True),
        "scheduler": torch.load(checkpoint / "scheduler.pt", weights_only=True),
        "random generators": torch.load(checkpoint / "extra.pt", weights_only=True),
    }


def _pairs(a: object, b: object, place: str) -> Iterator[tuple[str, object, object]]:
    """The leaves that stand at the same place of both; a whole branch where the shapes part."""
    if isinstance(a, Mapping) and isinstance(b, Mapping) and set(a) == set(b):
        for key in a:
            yield from _pairs(a[key], b[key], f"{place}[{key!r}]")
    elif isinstance(a, list | tuple) and type(a) is type(b) and len(a) == len(b):
        for index, (left, right) in enumerate(zip(a, b, strict=True)):
            yield from _pairs(left, right, f"{place}[{index}]")
    else:
        yield place, a, b


def _size(leaf: object) -> int:
    match leaf:
        case torch.Tensor():
            return leaf.numel()
        case np.ndarray():
            return leaf.size
        case _:
            return 1


def _bits(leaf: object) -> object:
    match leaf:
        case torch.Tensor():
            raw = leaf.detach().cpu().contiguous().flatten().view(torch.uint8)
            return "tensor", str(leaf.dtype), tuple(leaf.shape), raw.numpy().tobytes()
        case np.ndarray():
            return "array", str(leaf.dtype), leaf.shape, leaf.tobytes()
        case float():
            return type(leaf), struct.pack("<d", leaf)
        case _:
            return type(leaf), leaf
