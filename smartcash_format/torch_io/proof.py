"""The loaders of others, asked whether they take what was written, before anybody can see it.

torch's own restricted reader takes as long for a state as writing it. What it accepts is decided
by the opcodes of the program, never by the value of a float or by a byte of a tensor: so a form
that it has loaded once in this process is not loaded again (decision 0020). Our own reader looks at
every file of every save.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from torch.serialization import load as torch_load

from smartcash_format.errors import UnsavableStateError

# A training has a handful; a state whose numbers of entries change makes a new one each save.
_KEPT: Final = 256
_proved: dict[bytes, None] = {}


def is_proved(form: bytes) -> bool:
    """Whether torch has loaded a program of this form in this process."""
    return form in _proved


def prove_weights(path: Path) -> None:
    """Raises SafetensorError or OSError where safetensors does not open the file."""
    name = os.fspath(path)
    try:
        with safe_open(name, framework="pt") as weights:
            weights.keys()
    except (OSError, SafetensorError):
        # Some mounts map no files.
        with safe_open(name, framework="pt", backend="pread") as weights:
            weights.keys()


def prove_torch(path: Path, role: str, form: bytes) -> None:
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
    if len(_proved) >= _KEPT:
        _proved.clear()
    _proved[form] = None
