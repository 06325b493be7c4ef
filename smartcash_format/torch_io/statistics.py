"""What a tensor of floating numbers looks like from afar: norm, largest value, NaN and infinity."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import torch

# Memory stays flat whatever the tensor, and a chunk in a core's cache. torch works on fewer than
# 32,768 elements in the calling thread alone: more threads, beside those that write and hash, made
# saves five times slower on two cores, and their number is a setting of the user's process.
_CHUNK: Final = 24 << 10


def statistics(tensor: torch.Tensor) -> dict[str, int | float]:
    """l2 (accumulated in float64) and absmax; nan and inf counted only where l2 is not finite.

    For a contiguous CPU tensor of a floating dtype.
    """
    squares, absmax = 0.0, 0.0
    for chunk in _doubles(tensor):
        # Not torch.dot, which has threads of its own.
        norm = float(torch.linalg.vector_norm(chunk))
        squares += norm * norm
        low, high = torch.aminmax(chunk)
        absmax = max(absmax, -float(low), float(high))
    if math.isfinite(squares):
        return {"l2": math.sqrt(squares), "absmax": absmax}
    return _not_finite(tensor, absmax)


def _not_finite(tensor: torch.Tensor, absmax: float) -> dict[str, int | float]:
    nan = sum(int(chunk.isnan().sum()) for chunk in _doubles(tensor))
    inf = sum(int(chunk.isinf().sum()) for chunk in _doubles(tensor))
    if nan or inf:
        worst = math.nan if nan else math.inf
        return {"l2": worst, "absmax": worst, "nan": nan, "inf": inf}
    # Values beyond 1e154 are finite, their squares are not.
    scaled = sum(float((chunk / absmax).square().sum()) for chunk in _doubles(tensor))
    l2 = absmax * math.sqrt(scaled)
    return {"l2": l2, "absmax": absmax} | ({} if math.isfinite(l2) else {"nan": 0, "inf": 0})


def _doubles(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    chunks = torch.split(tensor.reshape(-1), _CHUNK) if tensor.numel() else ()
    return (chunk.to(torch.float64) for chunk in chunks)
