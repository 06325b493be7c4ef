"""What a tensor of floating numbers looks like from afar: norm, largest value, NaN and infinity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch

# Memory stays flat whatever the tensor, and a chunk in a core's cache. torch works on fewer than
# 32,768 elements in the calling thread alone: more threads, beside those that write and hash, made
# saves five times slower on two cores, and their number is a setting of the user's process.
_CHUNK: Final = 24 << 10
# Whose norms torch takes of many tensors in one call.
_GROUPED: Final = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})


def measure(dtype: torch.dtype, buffers: Sequence[Any]) -> list[dict[str, int | float]]:
    """The statistics of several tensors of a floating dtype, by their contiguous bytes."""
    tensors = [
        torch.frombuffer(data, dtype=dtype) if len(data) else torch.empty(0, dtype=dtype)
        for data in buffers
    ]
    found = _small_ones(tensors) if dtype in _GROUPED else {}
    return [found.get(i) or statistics(tensor) for i, tensor in enumerate(tensors)]


def _small_ones(tensors: Sequence[torch.Tensor]) -> dict[int, dict[str, int | float]]:
    """By index, those of finite tensors below a chunk: two calls for all of them, not five each."""
    small = [i for i, tensor in enumerate(tensors) if 0 < tensor.numel() <= _CHUNK]
    if not small:
        return {}
    chosen = [tensors[i] for i in small]
    norms = torch.stack(torch._foreach_norm(chosen, 2, dtype=torch.float64)).tolist()
    largest = torch.stack(torch._foreach_norm(chosen, math.inf)).tolist()
    return {
        i: {"l2": l2, "absmax": absmax}
        for i, l2, absmax in zip(small, norms, largest, strict=True)
        if math.isfinite(l2)
    }


def statistics(tensor: torch.Tensor) -> dict[str, int | float]:
    """l2 (accumulated in float64) and absmax; nan and inf counted only where l2 is not finite.

    For a contiguous CPU tensor of a floating dtype.
    """
    squares, absmax = 0.0, 0.0
    for chunk in _chunks(tensor) if tensor.dtype in _GROUPED else _doubles(tensor):
        # Not torch.dot, which has threads of its own.
        norm = float(torch.linalg.vector_norm(chunk, dtype=torch.float64))
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
    return (chunk.to(torch.float64) for chunk in _chunks(tensor))


def _chunks(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    return torch.split(tensor.reshape(-1), _CHUNK) if tensor.numel() else ()
