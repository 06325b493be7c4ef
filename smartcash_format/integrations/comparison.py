"""What was written against what was read, bit for bit, before anybody else can see it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch.serialization import load as torch_load

from smartcash_format.disk.observe import validate
from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.integrations.found import Found
from smartcash_format.integrations.mapped import MappedFile
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Depth, Problem
from smartcash_format.spec.watching import watched
from smartcash_format.torch_io.state import decode
from smartcash_format.torch_io.weights import live_state

# Of the source, as much as a save may copy at once.
_RESTED_BYTES: Final = 24 << 20


def compare(found: Found, directory: Path) -> None:
    """Raises InvalidCheckpointError where the checkpoint is not what the source holds."""
    _Looked(found.mapped).rest()
    problems = list(validate(directory, Depth.CONTENT).problems)
    if not problems:
        with watched(f"comparing with {found.source.name}"):
            problems += _weights(found, directory)
            problems += _states(found, directory)
    if problems:
        message = f"{found.source.name} was not converted: what was written differs from it"
        raise InvalidCheckpointError(message, path=found.source, problems=problems)


def _weights(found: Found, directory: Path) -> list[Problem]:
    manifest = json.loads((directory / layout.TENSORS).read_bytes())["weights"]
    problems = []
    for name, source in ((layout.MODEL, found.model), ("ema", found.ema)):
        if source is None:
            continue
        aliases = manifest[name].get("aliases", {})
        entries = live_state(source, where=name).entries
        stored = manifest[name]["tensors"]
        with ExitStack() as opened:
            # One tensor at a time: a second mapping beside the source's would double the memory.
            files = {
                file: opened.enter_context(
                    safe_open(str(directory / file), framework="pt", backend="pread")
                )
                for file in {record["file"] for record in stored.values()}
            }
            for key, value in entries.items():
                if not isinstance(value, torch.Tensor):
                    continue
                kept = aliases.get(key, key)
                if kept not in stored or not same_bits(
                    value, files[stored[kept]["file"]].get_tensor(kept)
                ):
                    problems.append(_differs(f"{name}: {key}"))
        problems += [_differs(f"{name}: {key}") for key in sorted(stored.keys() - entries.keys())]
    return problems


def _states(found: Found, directory: Path) -> list[Problem]:
    problems = []
    looked = _Looked(found.mapped)
    looked.rest()
    for file, source in ((layout.OPTIMIZER, found.optimizer), (layout.SCHEDULER, found.scheduler)):
        if source is not None and not same(source, _read(directory / file), looked.at):
            problems.append(_differs(file))
    if found.extra:
        stored = _read(directory / layout.EXTRA)[layout.OBJECTS]
        problems += [
            _differs(f"extra: {name}")
            for name, value in found.extra.items()
            if not same(value, stored.get(name), looked.at)
        ]
    return problems


class _Looked:
    """Gives back what was looked at of the source: beside it lies what torch loaded."""

    def __init__(self, mapped: Iterable[MappedFile]) -> None:
        self._mapped = tuple(mapped)
        self._bytes = 0

    def at(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        if self._bytes >= _RESTED_BYTES:
            self.rest()

    def rest(self) -> None:
        self._bytes = 0
        for mapped in self._mapped:
            mapped.rest()


def _read(path: Path) -> Any:
    return decode(torch_load(path, map_location="cpu", weights_only=True))


def _differs(where: str) -> Problem:
    return Problem(code="digest-mismatch", where=where, message="is not what the source holds")


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors have one dtype, shape and bits; NaN is itself here."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    flat = [each.detach().contiguous().reshape(-1).view(torch.uint8) for each in (first, second)]
    return torch.equal(*flat)


def same(first: Any, second: Any, looked: Callable[[int], None] = lambda size_bytes: None) -> bool:
    """Whether two states hold the same values, tensors bit for bit.

    `looked` is told the bytes of each tensor that was compared.
    """
    if isinstance(first, torch.Tensor):
        agrees = isinstance(second, torch.Tensor) and same_bits(first, second)
        looked(first.nbytes)
        return agrees
    if isinstance(first, Mapping):
        return (
            isinstance(second, Mapping)
            and list(first) == list(second)
            and all(same(first[key], second[key], looked) for key in first)
        )
    if isinstance(first, Sequence) and not isinstance(first, str):
        return (
            isinstance(second, Sequence)
            and len(first) == len(second)
            and all(same(one, other, looked) for one, other in zip(first, second, strict=True))
        )
    if isinstance(first, float) and math.isnan(first):
        return isinstance(second, float) and math.isnan(second)
    return type(first) is type(second) and bool(first == second)
