"""What was written is read back before anybody can see it: by our rules, and by others' loaders.

torch's own restricted reader takes as long for a state as writing it, and our static reading of a
program is the largest part of ours. What either accepts of a live state is decided by the opcodes
of its program, never by the value of a float or by a byte of a tensor: so a form that both have
read once in this process is not read again, its bytes are compared (decision 0020). The same holds
for the header of a weights file and safetensors. The rest is read back in every save.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from torch.serialization import load as torch_load

from smartcash_format.disk.observe import observe
from smartcash_format.disk.read import Opened
from smartcash_format.errors import InvalidCheckpointError, UnsavableStateError
from smartcash_format.spec import digest, layout
from smartcash_format.spec.archive import read_archive
from smartcash_format.spec.archive_layout import PROGRAM
from smartcash_format.spec.meta import Meta
from smartcash_format.spec.problems import Depth, Problem
from smartcash_format.spec.rules import check
from smartcash_format.torch_io.program import Program

# A training has a handful; a state whose numbers of entries change makes a new one each save.
_KEPT: Final = 256
_proved: dict[bytes | str, None] = {}


def read_back(directory: Path, meta: Meta, programs: Mapping[str, Program]) -> dict[str, str]:
    """The digest of each header of weights, when our reader finds no fault in the directory.

    No tensor is read. `programs` are those that were written, by the name of the torch file.
    Raises InvalidCheckpointError or OSError.
    """
    # extra.pt is compared with meta.json, so its program is always read.
    known = {n for n, p in programs.items() if n != layout.EXTRA and is_proved(p.form)}
    with Opened(directory) as opened:
        opened.meta = meta
        observed = observe(opened, Depth.STRUCTURE, names=meta.files.keys() - known)
        problems = list(check(meta, observed))
        for name in known:
            problems += _differences(opened, name, programs[name])
        heads = {
            name: digest.digest_of(opened.raw(name).read(header.data_start))
            for name, header in observed.headers.items()
        }
    if problems:
        raise invalid(directory, problems)
    return heads


def load_back(
    directory: Path, meta: Meta, programs: Mapping[str, Program], heads: Mapping[str, str]
) -> None:
    """Returns when torch and safetensors open what `read_back` gave the heads of.

    The files are mapped, or their heads are read. Raises UnsavableStateError, SafetensorError or
    OSError.
    """
    for name in meta.files:
        role, _ = layout.role_of(name)
        if role in layout.TORCH_ROLES:
            _prove_torch(directory / name, role, programs[name].form)
        elif role == "weights":
            _prove_weights(directory / name, heads[name])


def invalid(directory: Path, problems: Sequence[Problem]) -> InvalidCheckpointError:
    """The error for what was written and breaks the format."""
    return InvalidCheckpointError(
        "what was written is not a valid checkpoint; nothing was published",
        path=directory,
        problems=problems,
    )


def is_proved(form: bytes) -> bool:
    """Whether torch has loaded a program of this form in this process."""
    return form in _proved


def _differences(opened: Opened, name: str, program: Program) -> Sequence[Problem]:
    """What is wrong with a torch file that is to hold a program whose form is known."""
    stream = opened.raw(name)
    archive, problems = read_archive(stream, opened.size(name), where=name)
    if archive is None:
        return problems
    stream.seek(archive.program.begin)
    if stream.read(archive.program.size_bytes) != program.data:
        message = "is not the program that was written"
        return (Problem(code="pickle-structure", where=f"{name}: {PROGRAM}", message=message),)
    return ()


def _note(proved: bytes | str) -> None:
    if len(_proved) >= _KEPT:
        _proved.clear()
    _proved[proved] = None


def _prove_weights(path: Path, head: str) -> None:
    """Raises SafetensorError or OSError where safetensors does not open the file.

    `head` is the digest of its header.
    """
    if head in _proved:
        return
    name = os.fspath(path)
    try:
        with safe_open(name, framework="pt") as weights:
            weights.keys()
    except (OSError, SafetensorError):
        # Some mounts map no files.
        with safe_open(name, framework="pt", backend="pread") as weights:
            weights.keys()
    _note(head)


def _prove_torch(path: Path, role: str, form: bytes) -> None:
    """Raises UnsavableStateError where torch's restricted reader does not load the file."""
    if is_proved(form):
        return
    # torch.serialization.load, taken at import: a program may have replaced torch.load, and
    # weights_only is passed because an environment variable overrides a default.
    try:
        try:
            torch_load(path, map_location="cpu", weights_only=True, mmap=True)
        except (OSError, RuntimeError):
            # Some mounts map no files.
            torch_load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UnsavableStateError(
            f"the state of {role} was written, but torch does not load it again: {error}",
            where=role,
            kind=type(error).__name__,
            hint="nothing was published",
        ) from error
    _note(form)
