"""A weight set as one file that programs without this package read: safetensors, or torch's own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal, get_args

import torch
from torch.serialization import load as torch_load
from torch.serialization import save as torch_save

from smartcash_format.disk.publish import require_space
from smartcash_format.disk.read import open_checkpoint
from smartcash_format.disk.whole_file import require_free, require_place, whole_file
from smartcash_format.errors import CheckpointNotFoundError, UnsavableStateError
from smartcash_format.spec import layout
from smartcash_format.spec.header import encode_header
from smartcash_format.spec.watching import watched
from smartcash_format.torch_io.dtypes import bytes_of, file_shape
from smartcash_format.torch_io.parts import Parts, files_of
from smartcash_format.torch_io.read_state import model_state
from smartcash_format.torch_io.stored_weights import WeightSetInFile

Form = Literal["safetensors", "torch"]
# A file of this name goes to torch.load, which cannot read safetensors.
TORCH_ENDINGS: Final = frozenset({".pt", ".pth", ".bin"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A file that was written; `notes` says what it holds otherwise than the checkpoint."""

    path: Path
    size_bytes: int
    tensors: int
    notes: tuple[str, ...]


def export(
    checkpoint: str | os.PathLike[str],
    file: str | os.PathLike[str],
    *,
    to: Form | None = None,
    weight_set: str = layout.MODEL,
    overwrite: bool = False,
) -> Exported:
    """The weights of a checkpoint as one file, verified first and there only when it is whole.

    Without `to` the ending of the file decides: `.pt`, `.pth` and `.bin` are torch's, any other is
    of safetensors. `safetensors` has every name, those of tied tensors each with its own bytes, and
    the metadata `{"format": "pt"}`. `torch` is the module's state dict: it loads with
    `weights_only=True`, tied tensors are one, and what of the state is no tensor comes along.

    Raises CheckpointNotFoundError where there is no such weight set, CheckpointExistsError where
    there is a file and `overwrite` was not asked for, InvalidCheckpointError for bytes that are
    not those that were saved, UnsavableStateError, CheckpointWriteError.
    """
    target = Path(file)
    if to is None:
        to = "torch" if target.suffix.lower() in TORCH_ENDINGS else "safetensors"
    if to not in get_args(Form):
        raise ValueError(f"{to!r} is no form; it is one of {', '.join(get_args(Form))}")
    require_place(target)
    require_free(target, overwrite=overwrite)  # before gigabytes are verified for nothing
    with open_checkpoint(checkpoint) as opened:
        if weight_set not in opened.meta.weights:
            raise CheckpointNotFoundError(
                f"{opened.path.name} has no weight set {weight_set!r}; it has "
                f"{', '.join(sorted(opened.meta.weights)) or 'none'}",
                root=opened.path,
                query=weight_set,
            )
        files = files_of(opened.meta, sets=(weight_set,), torch_files=(layout.EXTRA,))
        parts = Parts(opened, files)
        parts.verify()
        with (
            watched(f"writing {target.name}"),
            whole_file(target, overwrite=overwrite) as stream,
        ):
            if to == "torch":
                notes = _write_torch(parts, weight_set, stream)
            else:
                notes = _write_safetensors(parts, weight_set, stream, target)
            size_bytes = stream.seek(0, os.SEEK_END)
        return Exported(
            path=target,
            size_bytes=size_bytes,
            tensors=len(parts.stored_names(weight_set)),
            notes=notes,
        )


def _write_safetensors(
    parts: Parts, weight_set: str, stream: BinaryIO, target: Path
) -> tuple[str, ...]:
    names = parts.stored_names(weight_set)
    forms = parts.forms(weight_set)
    listed = [
        (n, form.dtype, file_shape(form.dtype, form.shape or ())) for n, form in forms.items()
    ]
    head, header = encode_header(listed, where=target.name)
    require_space(target.parent, header.size_bytes)
    stream.write(head)
    views = parts.tensors(weight_set, names)
    for name in header.tensors:
        stream.write(bytes_of(views[name]))
    found = parts.weight_set(weight_set)
    left = sorted(WeightSetInFile(parts, weight_set).states())
    notes = [
        f"{name} is tied to {kept} and stored beside it" for name, kept in found.aliases.items()
    ]
    notes += [f"{name} is no tensor and left out: --to torch has it" for name in left]
    if found.modules:
        notes.append("the versions of modules are left out: --to torch has them")
    return tuple(notes)


def _write_torch(parts: Parts, weight_set: str, stream: BinaryIO) -> tuple[str, ...]:
    state = model_state(parts, weight_set, torch.device("cpu"), verify=False)
    try:
        torch_save(state, stream)
    except RuntimeError as error:
        # torch says "unexpected pos" where the disk is full: the system's error lies behind it.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    stream.flush()
    stream.seek(0)
    _prove(stream, weight_set)
    return ()


def _prove(stream: BinaryIO, weight_set: str) -> None:
    try:
        torch_load(stream, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UnsavableStateError(
            f"torch does not load the state of {weight_set} with weights_only=True: {error}",
            where=weight_set,
            kind=type(error).__name__,
            hint="nothing was written; --to safetensors leaves out what is no tensor",
        ) from error
