"""Files written from sources, and what torch and safetensors make of them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from smartcash_format.disk.parts import ArchivePart, WeightsPart
from smartcash_format.disk.publish import Stage
from smartcash_format.disk.write import WrittenFile, write_parts
from smartcash_format.torch_io.program import Program
from smartcash_format.torch_io.weights import WeightSetSource


def write_weights(
    directory: Path, source: WeightSetSource
) -> tuple[dict[str, torch.Tensor], WrittenFile]:
    """The tensors that safetensors reads from the file of a weight set, and what was written."""
    part = WeightsPart(name=f"{source.name}.safetensors", tensors=source.tensors)
    (written,) = write_parts(Stage(directory, directory), [part])
    with safe_open(directory / part.name, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, written  # noqa: SIM118


def write_archive(directory: Path, program: Program, storages: Sequence[Any]) -> Path:
    """The torch file of a program and its storages."""
    part = ArchivePart(name="state.pt", program=program.data, storages=storages)
    write_parts(Stage(directory, directory), [part])
    return directory / part.name


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether dtype, shape and every bit agree: NaN equals the same NaN, -0 is not 0."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if not left.numel():
        return True
    ours, theirs = (t.contiguous().reshape(-1).view(torch.uint8) for t in (left, right))
    return bool(torch.equal(ours, theirs))


def records(path: Path) -> dict[str, bytes]:
    """The records of a torch file by name, without the name of the archive in front."""
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
