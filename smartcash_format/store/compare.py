"""Two checkpoints compared from their meta.json and tensors.json; no weights are opened."""

from __future__ import annotations

import os

from smartcash_format.disk.read import Opened, open_checkpoint
from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.spec import digest, layout, limits
from smartcash_format.spec.diff import Diff
from smartcash_format.spec.diff import diff as _diff
from smartcash_format.spec.meta import Meta
from smartcash_format.spec.problems import Code, Problem
from smartcash_format.spec.refusal import Refused
from smartcash_format.spec.tensors import Tensors, parse_tensors

PathLike = str | os.PathLike[str]


def diff(before: PathLike, after: PathLike) -> Diff:
    """What differs from one checkpoint to another: metadata, config, metrics, tensors.

    Raises CheckpointNotFoundError, UnsupportedVersionError, or InvalidCheckpointError where
    meta.json or tensors.json is not what it was when it was saved.
    """
    return _diff(read_documents(before), read_documents(after))


def read_documents(path: PathLike) -> tuple[Meta, Tensors]:
    """meta.json and tensors.json of a checkpoint, and nothing else of it. Raises as `diff`."""
    with open_checkpoint(path) as opened:
        tensors, problems = read_manifest(opened)
        if tensors is None:
            raise InvalidCheckpointError(
                f"{opened.path.name} has no tensors.json that could be read",
                path=opened.path,
                problems=problems,
            )
        return opened.meta, tensors


def read_manifest(opened: Opened) -> tuple[Tensors | None, tuple[Problem, ...]]:
    """tensors.json as it was saved, or None and why it is not to be had."""
    record = opened.meta.files.get(layout.TENSORS)
    if record is None:
        return None, (_problem("file-missing", "is not listed in meta.json"),)
    try:
        data = opened.read(layout.TENSORS, limits.TENSORS_BYTES)
    except FileNotFoundError:
        return None, (_problem("file-missing", "is listed in meta.json and not there"),)
    except Refused as refused:
        return None, (refused.problem(layout.TENSORS),)
    # A small file: what is compared is what was saved.
    if digest.is_known(record.digest):
        found = digest.digest_of(data, digest.algorithm_of(record.digest))
        if found != record.digest:
            return None, (_problem("digest-mismatch", "is not the file that meta.json lists"),)
    return parse_tensors(data)


def _problem(code: Code, message: str) -> Problem:
    return Problem(code=code, where=layout.TENSORS, message=message)
