"""What other programs wrote, as a checkpoint: looked at, planned, written, compared, published."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import torch

from smartcash_format.disk.durable import make_root
from smartcash_format.disk.kinds import kind_of
from smartcash_format.disk.publish import require_root, write_error
from smartcash_format.disk.read import is_checkpoint
from smartcash_format.errors import (
    CheckpointExistsError,
    CheckpointNotFoundError,
    UnsafeCheckpointError,
)
from smartcash_format.integrations.comparison import compare
from smartcash_format.integrations.found import Field, Found, Known
from smartcash_format.integrations.huggingface import (
    is_weights_directory,
    read_directory,
    read_file,
)
from smartcash_format.integrations.legacy_pt import read_torch_file
from smartcash_format.integrations.mapped import Resting
from smartcash_format.integrations.origin import ORIGIN, converted_from, origin_of
from smartcash_format.integrations.source_digests import SourceDigests
from smartcash_format.integrations.target import list_target
from smartcash_format.integrations.training_files import recognise
from smartcash_format.manager import choosing
from smartcash_format.spec import layout
from smartcash_format.spec.history import HistoryLine
from smartcash_format.spec.watching import watched
from smartcash_format.store.history import append
from smartcash_format.torch_io.collect import collect
from smartcash_format.torch_io.save import Facts, prepare, publish, size_bound

# Endings of the torch files that a directory is searched for.
TORCH_SUFFIXES: Final = (".pt", ".pth", ".ckpt", ".bin", ".tar")
# Formats that hold programs or another framework's graph, and the way out of each.
_ELSEWHERE: Final[Mapping[str, str]] = {
    ".onnx": "ONNX holds a graph without a training's state: convert the .pt that it came from",
    ".torchscript": "TorchScript is a program: save the state_dict() of the module",
    ".pte": "ExecuTorch holds a program: convert the .pt that it came from",
    ".engine": "TensorRT holds a compiled graph: convert the .pt that it came from",
    ".tflite": "TensorFlow Lite holds a graph: convert the .pt that it came from",
    ".h5": "Keras weights have no state_dict: load them there and save a safetensors file",
    ".keras": "Keras weights have no state_dict: load them there and save a safetensors file",
    ".pb": "TensorFlow holds a graph: convert the .pt that it came from",
    ".gguf": "GGUF is quantised: convert the safetensors files that it came from",
    ".msgpack": "Flax weights: load them there and save a safetensors file",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """One source and what became of it: `path` is None where it was only planned.

    `already` says that the root had it before: then `path` is that checkpoint, and none was made.
    `fields` says of each part of the checkpoint whether it was read, inferred or is unknown;
    `dropped` what of the source is left behind.
    """

    source: Path
    kind: str
    path: Path | None
    already: bool
    name: str
    size_bytes: int
    tensors: int
    fields: tuple[Field, ...]
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]


def convert(
    source: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    allow: Sequence[str] = (),
) -> Conversion:
    """The file or directory `source` as a new checkpoint in `root`.

    No code of the source runs: classes that are not known become stand-ins that only keep their
    state, from an allow-list that `allow` adds patterns to (`mypackage.*`). Every tensor is
    compared with the source before the checkpoint is visible. A source whose very bytes the root
    has already is not converted again. With `dry_run` nothing is written.

    Raises UnsafeCheckpointError naming what is not taken, UnsavableStateError where there are no
    weights or no form for something, CheckpointNotFoundError where nothing is there,
    CheckpointExistsError for what is a checkpoint already, TypeError for one text as `allow`,
    CheckpointWriteError.
    """
    if isinstance(allow, str):
        # Each letter would be a pattern, and `*` among them allows every name.
        raise TypeError(f"allow is a text, not a list of patterns; pass [{allow!r}]")
    with watched(f"reading {Path(source).name}") as tell:
        found = _found(Path(source), allow)
        digests = SourceDigests(found, tell)
        origin = origin_of(found, digests)
    facts, warnings = _facts(found, origin)
    live = _live(found)
    listing = list_target(Path(root))
    there = converted_from(origin, listing)
    if there is not None:
        return _conversion(found, facts, there.size_bytes, path=there.path, already=True)
    if dry_run:
        collected = collect(**live)
        warnings += collected.warnings
        return _conversion(found, facts, size_bound(collected, facts), warnings)
    final = Path(root) / facts.directory_name
    require_root(final, "converted")
    try:
        make_root(Path(root))
    except OSError as error:
        raise write_error(error, final, "was not converted") from error
    resting = Resting(found.mapped)

    def inspect(staged: Path) -> None:
        # Beside the source's pages lie those of what was written.
        resting.rest()
        compare(found, staged, digests)

    saved = publish(prepare(final, facts, **live), wrote=resting.done, inspect=inspect)
    line = HistoryLine.of_save(saved.path.name, saved.meta)
    warnings += saved.warnings + append(Path(root), [line], listing)
    return _conversion(found, facts, saved.size_bytes, warnings, path=saved.path)


def sources_in(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Each path that is one source, and of each other directory the torch files in it, by name."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir() and not (is_weights_directory(path) or is_checkpoint(path)):
            files = [each for each in path.iterdir() if each.suffix.lower() in TORCH_SUFFIXES]
            if not files:
                message = f"{path} has no {', '.join(TORCH_SUFFIXES)} or .safetensors file"
                raise CheckpointNotFoundError(message, root=path, query="sources")
            found += sorted(each for each in files if each.is_file())
        else:
            found.append(path)
    return found


def _found(source: Path, allow: Sequence[str]) -> Found:
    if not source.exists():
        raise CheckpointNotFoundError(f"{source}: no such file or directory", root=source.parent)
    if source.is_dir() and is_checkpoint(source):
        raise CheckpointExistsError(
            f"{source.name} is a checkpoint already; `smartcash-format receive "
            f"{shlex.quote(str(source))} -o ROOT` copies it",
            path=source,
        )
    if source.is_dir():
        return read_directory(source, allow=allow)
    if not source.is_file():
        raise _refused(source, "it is no plain file", kind_of(source.stat().st_mode))
    suffix = source.suffix.lower()
    if suffix in _ELSEWHERE:
        raise _refused(source, _ELSEWHERE[suffix], suffix)
    if suffix == layout.WEIGHTS_SUFFIX:
        return read_file(source)
    return recognise(source, read_torch_file(source, allow=allow))


def _refused(source: Path, why: str, asked: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{source.name} was not read: {why}", path=source, file=source.name, first_refused=asked
    )


def _facts(found: Found, origin: Mapping[str, str]) -> tuple[Facts, tuple[str, ...]]:
    said = dict(found.said)
    described = choosing.describe(
        said.get("config"), said.get("metrics"), said.get("notes"),
        backbone=None, dataset=None, tags=("converted",),
    )  # fmt: skip
    for name in ("backbone", "dataset"):
        value = getattr(described, name)
        found.note(name, Known.INFERRED if value else Known.UNKNOWN, "config" if value else "")
    if "saved_at" not in said:
        moment = datetime.fromtimestamp(found.source.stat().st_mtime, UTC)
        found.say("saved_at", moment, Known.INFERRED, "when the file was last changed")
        said = dict(found.said)
    for name in ("epoch", "step", "is_best", "notes"):
        if name not in found.fields:
            found.note(name, Known.UNKNOWN, "")
    for name, field in found.fields.items():
        if field.known is Known.UNKNOWN and not field.source:
            found.note(name, Known.UNKNOWN, "the source has none")
    facts = Facts(
        checkpoint_id=str(uuid4()),
        run_id=said.get("run_id") or str(uuid4()),
        parent_id=None,
        saved_at=said["saved_at"],
        epoch=said.get("epoch") or 0,
        step=said.get("step"),
        is_best=bool(said.get("is_best")),
        metrics=described.metrics,
        backbone=described.backbone,
        dataset=described.dataset,
        tags=described.tags,
        config=described.config,
        notes={**described.notes, ORIGIN: dict(origin)},
    )
    return facts, described.warnings


def _live(found: Found) -> dict[str, Any]:
    """The arguments of a save. Nothing here is this process's own: its generators stay out."""
    ema = {} if found.ema is None else {"ema": found.ema}
    return {
        "model": found.model,
        "optimizer": found.optimizer,
        "scheduler": found.scheduler,
        "extra": {**ema, **found.extra},
        "rng": False,
    }


def _conversion(
    found: Found,
    facts: Facts,
    size_bytes: int,
    warnings: tuple[str, ...] = (),
    *,
    path: Path | None = None,
    already: bool = False,
) -> Conversion:
    state = found.model.state_dict() if hasattr(found.model, "state_dict") else found.model
    return Conversion(
        source=found.source,
        kind=found.kind,
        path=path,
        already=already,
        name=facts.directory_name if path is None else path.name,
        size_bytes=size_bytes,
        tensors=sum(isinstance(value, torch.Tensor) for value in state.values()),
        fields=tuple(found.fields.values()),
        dropped=tuple(found.dropped),
        warnings=warnings,
    )
