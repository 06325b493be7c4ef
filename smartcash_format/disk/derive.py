"""What checkpoints made from others have in common (FORMAT.md, Copies and derived checkpoints).

A derived checkpoint stands where its source stood: it keeps epoch, metrics, the time of saving and
the lineage; its id is new and `derived_from` names the source.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from smartcash_format.disk.observe import observe, validate
from smartcash_format.disk.parts import BlobPart
from smartcash_format.disk.placing import write_at
from smartcash_format.disk.publish import Stage, require_space, stage
from smartcash_format.disk.read import Opened, open_checkpoint
from smartcash_format.disk.write import write_parts
from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.spec import layout, limits
from smartcash_format.spec.meta import FileRecord, Meta, encode_meta
from smartcash_format.spec.pickles import scan_torch_file
from smartcash_format.spec.problems import Depth, Problem
from smartcash_format.spec.refusal import Refused
from smartcash_format.spec.rules import check
from smartcash_format.spec.tensors import Tensors, encode_tensors, parse_tensors
from smartcash_format.spec.watching import watched

# What extra.pt has under this key belongs to the model: its modules' state beside tensors.
_MODULES: Final = "modules"
_OPTIMIZER: Final = "optimizer"
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A checkpoint made from another, and the files of that one which it has not."""

    path: Path
    meta: Meta
    left_out: tuple[str, ...]


def derive(
    path: Path,
    root: Path,
    *,
    checkpoint_id: str,
    resume_state: bool,
    change: Callable[[Meta], Meta],
) -> Derived:
    """A checkpoint in another root with the same weights and what `change` makes of the metadata.

    Without `resume_state` optimizer, scheduler and extra state stay behind; extra.pt comes along
    where it holds state of the model's own modules. Every byte is validated before it is visible.

    Raises InvalidCheckpointError where what is kept is not what was saved, CheckpointWriteError.
    """
    with open_checkpoint(path) as opened:
        kept = dict(opened.meta.files) if resume_state else without_resume_state(opened)
        require_whole(path, derived_meta(opened.meta, kept, checkpoint_id), "shared")
        meta = change(derived_meta(opened.meta, kept, checkpoint_id))
        name = layout.directory_name(epoch=meta.epoch, step=meta.step, checkpoint_id=checkpoint_id)
        require_space(root, sum(opened.listed_size(file) for file in kept))
        with stage(root / name, verb="shared") as staged:
            with watched(f"copying {path.name}"):
                for file in kept:
                    if file != layout.TENSORS:
                        copy_file(opened, file, staged)
            (written,) = write_parts(staged, [manifest_part(opened, kept)])
            record = FileRecord(
                role="tensors", size_bytes=written.size_bytes, digest=written.digest
            )
            meta = meta.model_copy(update={"files": {**kept, layout.TENSORS: record}})
            write_parts(staged, [BlobPart(name=layout.META, data=encode_meta(meta))])
            report = validate(staged.path, Depth.CONTENT)
            if not report.valid:
                raise not_whole(path, report.problems, "shared")
            staged.publish()
        left_out = tuple(sorted(opened.meta.files.keys() - kept))
        return Derived(path=root / name, meta=meta, left_out=left_out)


def without_resume_state(opened: Opened) -> Mapping[str, FileRecord]:
    """The files of a checkpoint but those that only a resume needs."""
    dropped = {layout.OPTIMIZER, layout.SCHEDULER}
    if not _has_module_state(opened):
        dropped.add(layout.EXTRA)
    return {name: record for name, record in opened.meta.files.items() if name not in dropped}


def _has_module_state(opened: Opened) -> bool:
    record = opened.meta.files.get(layout.EXTRA)
    if record is None:
        return False
    try:
        size = opened.size(layout.EXTRA)
    except FileNotFoundError:
        return False
    file, problems = scan_torch_file(opened.raw(layout.EXTRA), size, where=layout.EXTRA)
    if file is None:
        raise not_whole(opened.path, problems)
    return isinstance(file.value, dict) and _MODULES in file.value


def require_whole(path: Path, meta: Meta, verb: str = "stripped") -> None:
    """Every file that is kept has a plain name, is there and has its size; raises if not."""
    with Opened(path) as opened:
        opened.meta = meta
        problems = check(meta, observe(opened, Depth.META))
    if problems:
        raise not_whole(path, problems, verb)


def manifest_part(opened: Opened, kept: Mapping[str, FileRecord]) -> BlobPart:
    """tensors.json without the parameter names of what is dropped."""
    try:
        with _reading(opened.path, layout.TENSORS):
            data = opened.read(layout.TENSORS, limits.TENSORS_BYTES)
        tensors, problems = parse_tensors(data)
    except Refused as refused:
        raise not_whole(opened.path, (refused.problem(layout.TENSORS),)) from None
    if tensors is None:
        raise not_whole(opened.path, problems)
    left = {
        name: names
        for name, names in tensors.optimizer_groups.items()
        if (layout.OPTIMIZER if name == _OPTIMIZER else layout.EXTRA) in kept
    }
    stripped: Tensors = tensors.model_copy(update={"optimizer_groups": left})
    return BlobPart(name=layout.TENSORS, data=encode_tensors(stripped))


def derived_meta(meta: Meta, files: Mapping[str, FileRecord], checkpoint_id: str) -> Meta:
    """The metadata of a checkpoint that has these files of another."""
    changed: dict[str, Any] = {
        "checkpoint_id": checkpoint_id,
        "derived_from": meta.checkpoint_id,
        "files": dict(files),
    }
    if layout.OPTIMIZER not in files:
        changed["optimizer"] = None
    if layout.SCHEDULER not in files:
        changed["scheduler"] = None
    if layout.EXTRA not in files:
        changed |= {"extra": [], "rng": False}
    return meta.model_copy(update=changed)


def copy_file(opened: Opened, name: str, staged: Stage) -> None:
    """A file of a checkpoint in a stage, its bytes as they are."""
    with _reading(opened.path, name):
        size_bytes = opened.size(name)
    require_space(staged.path.parent, size_bytes)
    descriptor = staged.create(name)
    try:
        offset = 0
        for chunk in _chunks(opened, name):
            write_at(descriptor, offset, [chunk])
            offset += len(chunk)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _chunks(opened: Opened, name: str) -> Iterator[bytes]:
    with _reading(opened.path, name), opened.raw(name) as source:
        while chunk := source.read(_CHUNK_BYTES):
            yield chunk


@contextmanager
def _reading(path: Path, name: str) -> Iterator[None]:
    """The source's errors are no errors of the place that is written to."""
    try:
        yield
    except OSError as error:
        found = error.strerror or str(error)
        problem = Problem(code="file-unreadable", where=name, message=f"cannot be read: {found}")
        raise InvalidCheckpointError(
            f"{path.name} cannot be copied", path=path, problems=(problem,)
        ) from error


def not_whole(
    path: Path, problems: tuple[Problem, ...], verb: str = "stripped"
) -> InvalidCheckpointError:
    """The error for a source of which something that is kept is missing or not what was saved."""
    return InvalidCheckpointError(
        f"{path.name} was not {verb}: what would be kept is not whole", path=path, problems=problems
    )
