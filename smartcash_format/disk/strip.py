"""A checkpoint without what only a resume needs: two thirds of one is optimizer state.

The stripped one is a checkpoint of its own (FORMAT.md, Copies and derived checkpoints): weights
linked where the mount can, else copied; epoch, metrics and the time of saving kept. It is published
before the original goes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from smartcash_format.disk.observe import observe, validate
from smartcash_format.disk.parts import BlobPart
from smartcash_format.disk.publish import Stage, remove, require_space, stage
from smartcash_format.disk.read import Opened, open_checkpoint
from smartcash_format.disk.write import write_parts
from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.spec import layout, limits
from smartcash_format.spec.meta import FileRecord, Meta, encode_meta
from smartcash_format.spec.pickles import scan_torch_file
from smartcash_format.spec.problems import Depth, Problem
from smartcash_format.spec.rules import check
from smartcash_format.spec.tensors import Tensors, encode_tensors, parse_tensors

# What extra.pt has under this key belongs to the model: its modules' state beside tensors.
_MODULES: Final = "modules"
_OPTIMIZER: Final = "optimizer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stripped:
    """The checkpoint that stands in the place of another, and the bytes that it saves."""

    path: Path
    checkpoint_id: str
    freed_bytes: int


def strip(path: Path, *, checkpoint_id: str) -> Stripped:
    """Replaces a checkpoint by one without optimizer, scheduler and extra state.

    Its id is the one given, and `derived_from` names the original. Parts that somebody deleted by
    hand are not missed. extra.pt stays where it holds state of the model's own modules. A
    checkpoint with nothing to drop is left as it is.

    Raises CheckpointNotFoundError, UnsupportedVersionError, InvalidCheckpointError where what is
    kept is not whole, CheckpointWriteError; the original is there in each case.
    """
    with open_checkpoint(path) as opened:
        kept = _kept(opened)
        if kept == opened.meta.files:
            return Stripped(path=path, checkpoint_id=opened.meta.checkpoint_id, freed_bytes=0)
        _require_whole(path, _meta(opened.meta, kept, checkpoint_id))
        new = _publish(opened, kept, checkpoint_id)
    # Not what removing frees: linked weights stay, and copied ones are there once more.
    saved_bytes = max(0, _size_bytes(path) - _size_bytes(new))
    remove(path)
    return Stripped(path=new, checkpoint_id=checkpoint_id, freed_bytes=saved_bytes)


def _size_bytes(directory: Path) -> int:
    with os.scandir(directory) as found:
        return sum(item.stat(follow_symlinks=False).st_size for item in found)


def _kept(opened: Opened) -> Mapping[str, FileRecord]:
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
        raise _not_whole(opened.path, problems)
    return isinstance(file.value, dict) and _MODULES in file.value


def _require_whole(path: Path, meta: Meta) -> None:
    """Every kept file has a plain name, is there and has its size."""
    with Opened(path) as opened:
        opened.meta = meta
        problems = check(meta, observe(opened, Depth.META))
    if problems:
        raise _not_whole(path, problems)


def _publish(opened: Opened, kept: Mapping[str, FileRecord], checkpoint_id: str) -> Path:
    meta = opened.meta
    name = layout.directory_name(epoch=meta.epoch, step=meta.step, checkpoint_id=checkpoint_id)
    manifest = BlobPart(name=layout.TENSORS, data=_manifest(opened, kept))
    # Where the mount has links only the two documents are new; nobody knows before trying.
    require_space(opened.path.parent, len(manifest.data) + len(opened.meta_bytes))
    with stage(opened.path.parent / name, verb="stripped") as staged:
        for file in kept:
            if file != layout.TENSORS:
                _link(opened, file, staged)
        (written,) = write_parts(staged, [manifest])
        record = FileRecord(role="tensors", size_bytes=written.size_bytes, digest=written.digest)
        files = {**kept, layout.TENSORS: record}
        data = encode_meta(_meta(meta, files, checkpoint_id))
        write_parts(staged, [BlobPart(name=layout.META, data=data)])
        report = validate(staged.path, Depth.STRUCTURE)
        if not report.valid:
            raise _not_whole(opened.path, report.problems)
        return staged.publish()


def _manifest(opened: Opened, kept: Mapping[str, FileRecord]) -> bytes:
    """tensors.json without the parameter names of what is dropped."""
    data = opened.read(layout.TENSORS, limits.TENSORS_BYTES)
    tensors, problems = parse_tensors(data)
    if tensors is None:
        raise _not_whole(opened.path, problems)
    groups = tensors.optimizer_groups if layout.EXTRA in kept else {}
    left = {name: names for name, names in groups.items() if name != _OPTIMIZER}
    stripped: Tensors = tensors.model_copy(update={"optimizer_groups": left})
    return encode_tensors(stripped)


def _meta(meta: Meta, files: Mapping[str, FileRecord], checkpoint_id: str) -> Meta:
    changed: dict[str, Any] = {
        "checkpoint_id": checkpoint_id,
        "derived_from": meta.checkpoint_id,
        "optimizer": None,
        "scheduler": None,
        "files": dict(files),
    }
    if layout.EXTRA not in files:
        changed |= {"extra": [], "rng": False}
    return meta.model_copy(update=changed)


def _link(opened: Opened, name: str, staged: Stage) -> None:
    facts = opened.facts(name)
    try:
        staged.link(name, opened.path / name, (facts.st_dev, facts.st_ino))
    except OSError:
        _copy(opened, name, staged)


def _copy(opened: Opened, name: str, staged: Stage) -> None:
    require_space(staged.path.parent, opened.size(name))
    with opened.raw(name) as source, open(staged.create(name), "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(target.fileno())


def _not_whole(path: Path, problems: tuple[Problem, ...]) -> InvalidCheckpointError:
    return InvalidCheckpointError(
        f"{path.name} was not stripped: what would be kept is not whole", path=path,
        problems=problems,
    )  # fmt: skip
