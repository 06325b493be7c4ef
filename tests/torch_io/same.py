"""Whether two states are one, bit for bit, and what a live object's state is now."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def assert_same(found: Any, expected: Any, at: str = "") -> None:
    """Equal in type, structure and every bit of every tensor."""
    if isinstance(expected, torch.Tensor):
        assert isinstance(found, torch.Tensor), at
        assert found.dtype == expected.dtype, at
        assert found.shape == expected.shape, at
        assert found.device == expected.device, at
        assert bits(found) == bits(expected), at
    elif isinstance(expected, Mapping):
        assert found.keys() == expected.keys(), at
        for key in expected:
            assert_same(found[key], expected[key], f"{at}[{key!r}]")
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected), at
        assert len(found) == len(expected), at
        for index, (left, right) in enumerate(zip(found, expected, strict=True)):
            assert_same(left, right, f"{at}[{index}]")
    elif isinstance(expected, np.ndarray):
        assert type(found) is type(expected), at
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), at
        assert found.tobytes() == expected.tobytes(), at
    else:
        assert type(found) is type(expected), f"{at}: {found!r}, {expected!r}"
        assert found == expected, at


def bits(tensor: torch.Tensor) -> bytes:
    """The values as bytes, so that NaN is NaN and -0 is not 0."""
    plain = tensor.detach().cpu().contiguous()
    return bytes(plain.reshape(-1).view(torch.uint8).tolist()) if plain.numel() else b""


def snapshot(*live: Any) -> Any:
    """The states of these objects and of the random number generators, in memory of their own."""
    states = [copy.deepcopy(thing.state_dict()) for thing in live if thing is not None]
    return {"states": states, "random": random.getstate(), "torch": torch.get_rng_state().clone()}
