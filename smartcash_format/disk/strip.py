"""A checkpoint without what only a resume needs: two thirds of one is optimizer state.

The stripped one is a checkpoint of its own (FORMAT.md, Copies and derived checkpoints): weights
linked where the mount can, else copied; epoch, metrics and the time of saving kept. It is published
before the original goes.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Mapping
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
from smartcash_format.errors import CheckpointError, CheckpointNotFoundError, CheckpointWriteError
from smartcash_format.spec import layout
from smartcash_format.spec.meta import FileRecord, encode_meta
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.watching import watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Stripped:
    """The checkpoint that stands in the place of another, and the bytes that it saves."""

    path: Path
    checkpoint_id: str
    freed_bytes: int


def stripped_id(checkpoint_id: str) -> str:
    """The id of the checkpoint that stands in the place of this one when it is stripped.

    It follows from the original's, so that two that strip one make the same, and one that was
    killed before the original was gone is gone on with (FORMAT.md, Copies and derived checkpoints).
    """
    return str(uuid.uuid5(uuid.UUID(checkpoint_id), "stripped"))


def strip(path: Path, *, unless: Callable[[str], bool] = lambda checkpoint_id: False) -> Stripped:
    """Replaces a checkpoint by one without optimizer, scheduler and extra state.

    Its id is `stripped_id` of the original's, which its `derived_from` names. Parts that somebody
    deleted by hand are not missed. extra.pt stays where it holds state of the model's own modules.
    A checkpoint with nothing to drop is left as it is. `unless` is asked with a checkpoint's id
    before it is removed, and says whether it has to stay: when the original has to, it stays alone.

    Raises CheckpointNotFoundError, UnsupportedVersionError, InvalidCheckpointError where what is
    kept is not whole, CheckpointWriteError; the original is there in each case.
    """
    with open_checkpoint(path) as opened:
        meta = opened.meta
        kept = without_resume_state(opened)
        if kept == meta.files:
            return Stripped(path=path, checkpoint_id=meta.checkpoint_id, freed_bytes=0)
        new_id = stripped_id(meta.checkpoint_id)
        name = layout.directory_name(epoch=meta.epoch, step=meta.step, checkpoint_id=new_id)
        new = path.parent / name
        try:
            require_whole(path, derived_meta(meta, kept, new_id))
            size_bytes = _size_bytes(path)
            _publish(opened, kept, new, new_id)
        except (CheckpointError, OSError) as error:
            # Another has done it, or one that was killed before it removed the original.
            if not _is_whole(new, new_id):
                if os.path.lexists(path):
                    raise
                raise CheckpointNotFoundError(
                    f"{path}: it was removed this moment", root=path.parent
                ) from error
            size_bytes = _size_bytes(path) if _is_marked(path) else 0
    # Not what removing frees: linked weights stay, and copied ones are there once more.
    saved_bytes = max(0, size_bytes - _size_bytes(new))
    _take_the_place(new, new_id, path, meta.checkpoint_id, unless)
    return Stripped(path=new, checkpoint_id=new_id, freed_bytes=saved_bytes)


def _take_the_place(
    new: Path, new_id: str, old: Path, old_id: str, unless: Callable[[str], bool]
) -> None:
    """Removes the old one, or the new one when the old one stays.

    Several may do so at once: each is in the trash while it is asked whether the other still
    stands, so one of them always does.
    """
    try:
        remove(old, unless=lambda: unless(old_id) or not _is_marked(new))
    except CheckpointWriteError:
        if _is_marked(old):
            with contextlib.suppress(CheckpointWriteError):
                remove(new, unless=lambda: unless(new_id) or not _is_marked(old))
        raise


def _is_marked(path: Path) -> bool:
    return os.path.lexists(path / layout.META)


def _is_whole(path: Path, checkpoint_id: str) -> bool:
    report = validate(path, Depth.STRUCTURE)
    return report.valid and report.meta is not None and report.meta.checkpoint_id == checkpoint_id


def _size_bytes(directory: Path) -> int:
    try:
        with os.scandir(directory) as found:
            return sum(item.stat(follow_symlinks=False).st_size for item in found)
    except FileNotFoundError:
        return 0  # another took it away while it was counted


def _publish(
    opened: Opened, kept: Mapping[str, FileRecord], final: Path, checkpoint_id: str
) -> None:
    manifest = manifest_part(opened, kept)
    # Where the mount has links only the two documents are new; nobody knows before trying.
    require_space(opened.path.parent, len(manifest.data) + len(opened.meta_bytes))
    with stage(final, verb="stripped") as staged:
        for file in kept:
            if file != layout.TENSORS:
                _link(opened, file, staged)
        (written,) = write_parts(staged, [manifest])
        record = FileRecord(role="tensors", size_bytes=written.size_bytes, digest=written.digest)
        files = {**kept, layout.TENSORS: record}
        data = encode_meta(derived_meta(opened.meta, files, checkpoint_id))
        write_parts(staged, [BlobPart(name=layout.META, data=data)])
        report = validate(staged.path, Depth.STRUCTURE)
        if not report.valid:
            raise not_whole(opened.path, report.problems)
        staged.publish()


def _link(opened: Opened, name: str, staged: Stage) -> None:
    facts = opened.facts(name)
    try:
        staged.link(name, opened.path / name, (facts.st_dev, facts.st_ino))
    except OSError:
        with watched(f"copying {name}"):
            copy_file(opened, name, staged)
