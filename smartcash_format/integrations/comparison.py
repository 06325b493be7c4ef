"""What was written against what was read, bit for bit, before anybody else can see it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.serialization import load as torch_load

from smartcash_format.disk.observe import validate
from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.integrations.found import Found
from smartcash_format.integrations.source_digests import SourceDigests, digest_of_tensor
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Depth, Problem
from smartcash_format.spec.watching import watched
from smartcash_format.torch_io.dtypes import DTYPES, file_shape
from smartcash_format.torch_io.state import decode
from smartcash_format.torch_io.weights import live_state


def compare(found: Found, directory: Path, digests: SourceDigests) -> None:
    """Raises InvalidCheckpointError where the checkpoint is not what the source holds.

    `digests` are those of the source, taken while it was read: of both sides digests are compared.
    """
    # Reads all that was written: then tensors.json says of each tensor what lies on the disk.
    problems = list(validate(directory, Depth.CONTENT).problems)
    if not problems:
        with watched(f"comparing with {found.source.name}"):
            problems += _weights(found, directory, digests)
            problems += _states(found, directory, digests)
    if problems:
        message = f"{found.source.name} was not converted: what was written differs from it"
        raise InvalidCheckpointError(message, path=found.source, problems=problems)


def _weights(found: Found, directory: Path, digests: SourceDigests) -> list[Problem]:
    manifest = json.loads((directory / layout.TENSORS).read_bytes())["weights"]
    problems = []
    for name, source in ((layout.MODEL, found.model), ("ema", found.ema)):
        if source is None:
            continue
        aliases = manifest[name].get("aliases", {})
        entries = live_state(source, where=name).entries
        stored = manifest[name]["tensors"]
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                record = stored.get(aliases.get(key, key))
                if record is None or not _is_recorded(value, record, digests):
                    problems.append(_differs(f"{name}: {key}"))
        problems += [_differs(f"{name}: {key}") for key in sorted(stored.keys() - entries.keys())]
    return problems


def _is_recorded(tensor: torch.Tensor, record: Mapping[str, Any], digests: SourceDigests) -> bool:
    dtype = DTYPES[tensor.dtype]
    shape = list(file_shape(dtype, tensor.shape))
    found = (record["dtype"], record["shape"], record["digest"])
    return found == (dtype, shape, digests.of(tensor))


def _states(found: Found, directory: Path, digests: SourceDigests) -> list[Problem]:
    def agree(source: torch.Tensor, stored: torch.Tensor) -> bool:
        return (
            source.dtype == stored.dtype
            and source.shape == stored.shape
            and digests.of(source) == digest_of_tensor(stored)
        )

    problems = []
    for file, source in ((layout.OPTIMIZER, found.optimizer), (layout.SCHEDULER, found.scheduler)):
        if source is not None and not same(source, _read(directory / file), agree):
            problems.append(_differs(file))
    if found.extra:
        stored = _read(directory / layout.EXTRA)[layout.OBJECTS]
        problems += [
            _differs(f"extra: {name}")
            for name, value in found.extra.items()
            if not same(value, stored.get(name), agree)
        ]
    return problems


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


def same(
    first: Any, second: Any, agree: Callable[[torch.Tensor, torch.Tensor], bool] = same_bits
) -> bool:
    """Whether two states hold the same values, tensors bit for bit, as `agree` finds out."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and agree(first, second)
    if isinstance(first, Mapping):
        return (
            isinstance(second, Mapping)
            and list(first) == list(second)
            and all(same(first[key], second[key], agree) for key in first)
        )
    if isinstance(first, Sequence) and not isinstance(first, str):
        return (
            isinstance(second, Sequence)
            and len(first) == len(second)
            and all(same(one, other, agree) for one, other in zip(first, second, strict=True))
        )
    if isinstance(first, float) and math.isnan(first):
        return isinstance(second, float) and math.isnan(second)
    return type(first) is type(second) and bool(first == second)
