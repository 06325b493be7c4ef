"""A checkpoint without what only a resume needs: two thirds of one is optimizer state.

The stripped one is a checkpoint of its own (FORMAT.md, Copies and derived checkpoints): weights
linked where the mount can, else copied; epoch, metrics and the time of saving kept. It is published
before the original goes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from smartcash_format.disk.derive import (
    copy_file,
    derived_meta,
    manifest_part,
    not_whole,
    require_whole,
    without_resume_state,
)
from smartcash_format.disk.observe import validate
from smartcash_format.disk.parts import BlobPart
from smartcash_format.disk.publish import Stage, remove, require_space, stage
from smartcash_format.disk.read import Opened, open_checkpoint
from smartcash_format.disk.write import write_parts
from smartcash_format.spec import layout
from smartcash_format.spec.meta import FileRecord, encode_meta
from smartcash_format.spec.problems import Depth


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
        kept = without_resume_state(opened)
        if kept == opened.meta.files:
            return Stripped(path=path, checkpoint_id=opened.meta.checkpoint_id, freed_bytes=0)
        require_whole(path, derived_meta(opened.meta, kept, checkpoint_id))
        new = _publish(opened, kept, checkpoint_id)
    # Not what removing frees: linked weights stay, and copied ones are there once more.
    saved_bytes = max(0, _size_bytes(path) - _size_bytes(new))
    remove(path)
    return Stripped(path=new, checkpoint_id=checkpoint_id, freed_bytes=saved_bytes)


def _size_bytes(directory: Path) -> int:
    with os.scandir(directory) as found:
        return sum(item.stat(follow_symlinks=False).st_size for item in found)


def _publish(opened: Opened, kept: Mapping[str, FileRecord], checkpoint_id: str) -> Path:
    meta = opened.meta
    name = layout.directory_name(epoch=meta.epoch, step=meta.step, checkpoint_id=checkpoint_id)
    manifest = manifest_part(opened, kept)
    # Where the mount has links only the two documents are new; nobody knows before trying.
    require_space(opened.path.parent, len(manifest.data) + len(opened.meta_bytes))
    with stage(opened.path.parent / name, verb="stripped") as staged:
        for file in kept:
            if file != layout.TENSORS:
                _link(opened, file, staged)
        (written,) = write_parts(staged, [manifest])
        record = FileRecord(role="tensors", size_bytes=written.size_bytes, digest=written.digest)
        files = {**kept, layout.TENSORS: record}
        data = encode_meta(derived_meta(meta, files, checkpoint_id))
        write_parts(staged, [BlobPart(name=layout.META, data=data)])
        report = validate(staged.path, Depth.STRUCTURE)
        if not report.valid:
            raise not_whole(opened.path, report.problems)
        return staged.publish()


def _link(opened: Opened, name: str, staged: Stage) -> None:
    facts = opened.facts(name)
    try:
        staged.link(name, opened.path / name, (facts.st_dev, facts.st_ino))
    except OSError:
        copy_file(opened, name, staged)
