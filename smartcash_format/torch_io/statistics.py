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
# Tensors below this size are faster as segments of one, above it one by one.
_SEGMENT: Final = 1 << 10
# Whose norms torch takes of many tensors in one call.
_GROUPED: Final = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})

# The squares of smaller values lose digits.
_SMALL: Final = 1e-145


def measure(dtype: torch.dtype, data: Any, sizes: Sequence[int]) -> list[dict[str, int | float]]:
    """The statistics of tensors of a floating dtype whose bytes lie one after the other in `data`.

    `sizes` has the bytes of each.
    """
    counts = [size // dtype.itemsize for size in sizes]
    flat = (
        torch.frombuffer(data, dtype=dtype)
        if len(data)
        else torch.empty(0, dtype=dtype, device="cpu")
    )
    tensors = torch.split(flat, counts)
    found = _small_ones(flat, tensors, counts) if dtype in _GROUPED else {}
    return [found.get(i) or statistics(tensor) for i, tensor in enumerate(tensors)]


def _small_ones(
    flat: torch.Tensor, tensors: Sequence[torch.Tensor], counts: Sequence[int]
) -> dict[int, dict[str, int | float]]:
    """By index, those of tensors below a chunk whose squares are numbers: a few calls for all of a
    chunk together.
    """
    found: dict[int, dict[str, int | float]] = {}
    for first, end, begin, stop in _groups(counts):
        count, elements = end - first, stop - begin
        if not elements:
            continue
        if elements < count * _SEGMENT:
            norms, largest = _of_segments(flat[begin:stop], counts[first:end])
        else:
            norms, largest = _of_each(tensors[first:end])
        for i, l2, absmax in zip(range(first, end), norms, largest, strict=True):
            if counts[i] and _is_exact(l2, absmax):
                found[i] = {"l2": l2, "absmax": absmax}
    return found


def _groups(counts: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """Neighbours that are a chunk together: (first, end) of them and of their elements."""
    first = begin = stop = 0
    for i, count in enumerate(counts):
        if stop + count - begin > _CHUNK:
            yield first, i, begin, stop
            # A tensor beyond a chunk is nobody's neighbour.
            first, begin = (i, stop) if count <= _CHUNK else (i + 1, stop + count)
        stop += count
    yield first, len(counts), begin, stop


def _of_segments(
    flat: torch.Tensor, counts: Sequence[int]
) -> tuple[Sequence[float], Sequence[float]]:
    if min(counts) == max(counts):  # rows of a table take a fifth of what segments do
        rows = flat.view(len(counts), -1)
        norms = torch.linalg.vector_norm(rows.to(torch.float64), dim=1)
        return norms.tolist(), rows.abs().amax(dim=1).tolist()
    doubles = flat.to(torch.float64, copy=True)
    lengths = torch.tensor(counts, device="cpu")
    largest = torch.segment_reduce(doubles.abs(), "max", lengths=lengths, unsafe=True)
    squares = torch.segment_reduce(doubles.square_(), "sum", lengths=lengths, unsafe=True)
    return squares.sqrt_().tolist(), largest.tolist()


def _of_each(tensors: Sequence[torch.Tensor]) -> tuple[Sequence[float], Sequence[float]]:
    filled = [i for i, tensor in enumerate(tensors) if tensor.numel()]
    chosen = [tensors[i] for i in filled]
    norms, largest = [0.0] * len(tensors), [0.0] * len(tensors)
    found = torch.stack(torch._foreach_norm(chosen, 2, dtype=torch.float64)).tolist()
    highest = torch.stack(torch._foreach_norm(chosen, math.inf)).tolist()
    for i, l2, absmax in zip(filled, found, highest, strict=True):
        norms[i], largest[i] = l2, absmax
    return norms, largest


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
    if _is_exact(math.sqrt(squares), absmax):
        return {"l2": math.sqrt(squares), "absmax": absmax}
    return _scaled(tensor, absmax)


def _is_exact(l2: float, absmax: float) -> bool:
    """Whether no square that counts was too large or too small for a float64."""
    return math.isfinite(l2) and (l2 > _SMALL or absmax == 0)


def _scaled(tensor: torch.Tensor, absmax: float) -> dict[str, int | float]:
    nan = sum(int(chunk.isnan().sum()) for chunk in _doubles(tensor))
    inf = sum(int(chunk.isinf().sum()) for chunk in _doubles(tensor))
    if nan or inf:
        worst = math.nan if nan else math.inf
        return {"l2": worst, "absmax": worst, "nan": nan, "inf": inf}
    # Values beyond 1e154 or below 1e-154 have no squares, divided by the largest they have.
    scaled = sum(float((chunk / absmax).square().sum()) for chunk in _doubles(tensor))
    l2 = absmax * math.sqrt(scaled)
    return {"l2": l2, "absmax": absmax} | ({} if math.isfinite(l2) else {"nan": 0, "inf": 0})


def _doubles(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    return (chunk.to(torch.float64) for chunk in _chunks(tensor))


def _chunks(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    return torch.split(tensor.reshape(-1), _CHUNK) if tensor.numel() else ()
