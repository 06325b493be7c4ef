"""What stands where a checkpoint was expected, and what to do: the problem that says so."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from smartcash_format.spec import layout
from smartcash_format.spec.problems import Problem

_PICKLE_SUFFIXES: Final = frozenset({".pt", ".pth", ".ckpt", ".pkl", ".bin"})
# Of a directory that is no checkpoint, to see whether checkpoints lie in it.
_LOOKED_INTO: Final = 100


def no_meta(path: Path, names: Sequence[str]) -> Problem:
    """Of a directory without meta.json that has these names in it."""
    message, fix = "has no meta.json: not a checkpoint, or one whose copy is not complete", ""
    if any(os.path.lexists(path / name / layout.META) for name in names[:_LOOKED_INTO]):
        message = "has no meta.json: it is no checkpoint, but a directory of checkpoints"
        fix = f"smartcash-format ls {shlex.quote(str(path))}"
    return Problem(code="not-a-checkpoint", where=".", message=message, fix=fix)


def no_directory(path: Path) -> Problem:
    """Of a path where no directory is."""
    message, fix = "is a file; a checkpoint is a directory with a meta.json", ""
    is_pickle = path.suffix.lower() in _PICKLE_SUFFIXES
    if not os.path.lexists(path):
        message = "does not exist" + (f"; {_pickle_sentence(path)}" if is_pickle else "")
    elif not os.path.exists(path):
        message, fix = "is a link, and what it leads to is not there", "mend the link"
    elif path.name == layout.META:
        fix = f"name its directory, {shlex.quote(str(path.parent))}"
    elif is_pickle:
        message = f"is a file, not a checkpoint directory; {_pickle_sentence(path)}"
        fix = f"smartcash-format convert {shlex.quote(str(path))} -o ROOT"
    return Problem(code="not-a-checkpoint", where=path.name, message=message, fix=fix)


def _pickle_sentence(path: Path) -> str:
    return (
        f"{path.suffix} files are pickles, which can run code when loaded: convert one with "
        f"`smartcash-format convert {shlex.quote(str(path))} -o ROOT`"
    )
