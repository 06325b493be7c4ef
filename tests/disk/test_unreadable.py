"""What the system does not let be read is a finding beside all the others, and never an exception.

The system's calls are made to fail as a bad disk, a shut directory or a lost mount makes them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk.observe import validate
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Depth
from smartcash_format.testing.sample import write_sample

FILE = layout.OPTIMIZER


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint with one more thing wrong, which has to be found as well."""
    path = write_sample(tmp_path / "root", epoch=3)
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    return path


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, is_about: Callable[[Any], bool]) -> None:
    """Makes a call of `os` fail where its first argument is about the file."""
    real = getattr(os, name)

    def call(first: Any, *arguments: Any, **options: Any) -> Any:
        if is_about(first):
            raise OSError(errno.EIO, "Input/output error")
        return real(first, *arguments, **options)

    monkeypatch.setattr(os, name, call)


def is_named(first: Any) -> bool:
    return isinstance(first, str) and Path(first).name == FILE


def is_descriptor(first: Any) -> bool:
    return Path(f"/proc/self/fd/{first}").resolve().name == FILE


@pytest.mark.parametrize(
    ("call", "is_about"),
    [("stat", is_named), ("open", is_named), ("pread", is_descriptor)],
)
def test_a_file_that_the_disk_does_not_give_is_found_beside_the_others(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, is_about: Callable[[Any], bool]
) -> None:
    refuse(monkeypatch, call, is_about)
    for depth in (Depth.STRUCTURE, Depth.CONTENT):
        report = validate(path, depth)
        found = {problem.where: problem for problem in report.problems}
        assert found[FILE].code == "file-unreadable"
        assert found[FILE].message == "cannot be read: Input/output error"
        assert found[FILE].fix
        assert found["model.safetensors"].code == "file-size"
        assert len(found) == 2


@pytest.mark.parametrize("name", [layout.META, None])
def test_a_checkpoint_that_cannot_be_opened_is_a_report_too(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    def is_about(first: Any) -> bool:
        return Path(first).name == (name or path.name)

    def fail(first: Any, *arguments: Any, **options: Any) -> int:
        if is_about(first):
            raise PermissionError(errno.EACCES, "Permission denied", str(first))
        return real(first, *arguments, **options)

    real = os.open
    monkeypatch.setattr(os, "open", fail)
    (problem,) = validate(path).problems
    assert (problem.code, problem.where) == ("file-unreadable", name or ".")
    assert problem.found == "Permission denied"


def test_names_that_cannot_be_listed_cost_the_notices_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "listdir", lambda first: True)
    codes = [problem.code for problem in validate(path).problems]
    assert codes == ["file-size", "file-unreadable"]


def test_validate_checkpoint_never_raises_for_what_it_finds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = CheckpointManager(path.parent)
    refuse(monkeypatch, "pread", is_descriptor)
    is_valid, info = manager.validate_checkpoint(path)
    assert not is_valid
    assert {problem.code for problem in info["problems"]} == {"file-unreadable", "file-size"}
