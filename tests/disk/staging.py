"""Checkpoints of two files that are staged and published, and calls of the system that fail."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk.publish import Stage, stage
from smartcash_format.spec import layout

REFUSALS = ["EXDEV", "ENOTSUP", "EPERM", "ENOSYS", "EMFILE"]


def fill(staged: Stage) -> None:
    for name in ("model.safetensors", layout.META):
        descriptor = staged.create(name)
        os.write(descriptor, name.encode())
        os.close(descriptor)


def save(final: Path, meanwhile: Callable[[Stage], object] = lambda staged: None) -> Path:
    """Saves two files; `meanwhile` is what happens between writing and publishing."""
    with stage(final) as staged:
        fill(staged)
        meanwhile(staged)
        return staged.publish()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


WHOLE = {name: name.encode() for name in ("model.safetensors", layout.META)}


def failing(
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    when: Callable[..., bool] = lambda *args, **kwargs: True,
) -> None:
    """Makes os.<call> fail with an errno whenever `when` says so."""
    real = getattr(os, call)

    def fail(*args: Any, **kwargs: Any) -> Any:
        if when(*args, **kwargs):
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, fail)


def is_directory(path: object, *args: object, **kwargs: object) -> bool:
    return os.path.isdir(str(path))
