"""What the tests of weights store: a small model, and tensors of every bit pattern."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn


def small() -> nn.Module:
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), head=nn.Linear(4, 2))
    )


def bits(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """A tensor of every kind of bit pattern that the dtype may have."""
    generator = torch.Generator().manual_seed(0)
    if dtype is torch.bool:
        return torch.rand(shape, generator=generator) > 0.5
    count = math.prod(shape) * dtype.itemsize
    raw = torch.randint(0, 256, (count,), generator=generator, dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)
