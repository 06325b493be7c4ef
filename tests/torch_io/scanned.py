"""Torch files as torch and as this package write them, read statically beside what torch loads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.spec import known_programs
from smartcash_format.spec.entries import EntryMachine
from smartcash_format.spec.known_programs import forget_programs
from smartcash_format.spec.pickles import TensorRef, TorchFile
from smartcash_format.torch_io.archive import to_archive
from smartcash_format.torch_io.dtypes import DTYPES
from smartcash_format.torch_io.state import encode
from tests.spec.torch_files import file_of, scan


def saved(value: Any) -> bytes:
    target = io.BytesIO()
    torch.save(value, target)
    return target.getvalue()


def loaded(file: bytes) -> Any:
    return torch.load(io.BytesIO(file), weights_only=True, map_location="cpu")


def written(value: Any) -> bytes:
    """A file as this package writes one."""
    program, storages = to_archive(encode(value, "state"))
    return file_of(program.data, {storage.key: bytes(storage.read()) for storage in storages})


def differences(found: Any, live: Any, where: str = "state") -> Iterator[str]:
    """Where the inert value and what torch loads differ."""
    if isinstance(found, TensorRef):
        seen = (found.dtype, found.shape, found.stride, found.offset, found.numel)
        name = DTYPES.get(live.dtype, "C128")
        due = (name, tuple(live.shape), live.stride(), live.storage_offset(), live.numel())
        if seen != due:
            yield f"{where}: {seen} is {due}"
    elif isinstance(found, dict) and isinstance(live, dict):
        if list(found) != list(live):
            yield f"{where}: {list(found)} is {list(live)}"
            return
        for key in found:
            yield from differences(found[key], live[key], f"{where}[{key!r}]")
    elif isinstance(found, list | tuple) and type(found) is type(live) and len(found) == len(live):
        for index, pair in enumerate(zip(found, live, strict=True)):
            yield from differences(*pair, f"{where}[{index}]")
    elif repr(found) != repr(live):
        yield f"{where}: {found!r} is {live!r}"


def check(file: bytes) -> TorchFile:
    found, problems = scan(file)
    assert problems == (), problems
    assert found is not None
    unlike = list(differences(found.value, loaded(file)))
    assert unlike == [], unlike
    return found


ROADS = ("read_entry", "read_tensor", "read_integers")


def close(patch: pytest.MonkeyPatch, *roads: str) -> None:
    """From now on nothing is known or read in one go: every tensor is made opcode by opcode."""
    forget_programs()
    patch.setattr(known_programs, "_KEPT_BYTES", 0)
    for road in roads or ROADS:
        patch.setattr(EntryMachine, road, lambda self, at: 0)


def large_state(parameters: int = 40) -> dict[str, Any]:
    """An AdamW state with far more memos than one byte counts."""
    shapes = [(3, 2), (4,), (), (2, 3, 1, 1), (0,), (300,), (1, 2, 1, 2, 1)]
    live = [nn.Parameter(torch.ones(shapes[i % len(shapes)])) for i in range(parameters)]
    for parameter in live:
        parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.AdamW(live, amsgrad=True)
    optimizer.step()
    return optimizer.state_dict()
