"""A file that meta.json does not list is named in a notice and opened by nobody (F-1.6)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartcash_format.disk.observe import validate
from smartcash_format.spec.problems import Depth
from tests.cli.conftest import Run
from tests.contract.make import EXAMPLES
from tests.opened import opened_files

# What a stranger would put beside a checkpoint, to be opened by somebody.
UNLISTED = (
    "other.pt",
    "model.safetensors.bak",
    "extra.pkl",
    "README.md",
    "scheduler.pth",
    ".hidden",
)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    with opened_files() as paths:
        yield paths


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two checkpoints, one with all kinds of files, and other files in each."""
    for name, example in {"a": "two-optimizers", "b": "plain"}.items():
        path = tmp_path / "root" / name
        shutil.copytree(EXAMPLES / "valid" / example, path)
        for other in UNLISTED:
            (path / other).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    return tmp_path / "root"


QUESTIONS = (
    ("ls", "ROOT"), ("best", "ROOT"), ("show", "A"), ("tensors", "A"), ("diff", "A", "B"),
    ("validate", "A", "--depth", "content"), ("validate", "ROOT"), ("share", "A", "-o", "OUT"),
    ("receive", "A", "-o", "OUT"), ("report", "ROOT", "-o", "OUT"), ("doctor", "ROOT"),
    pytest.param(("export", "A", "-o", "OUT"), marks=pytest.mark.torch),
)  # fmt: skip


@pytest.mark.attack("move", "files beside those that are listed", "named, and opened by no command")
@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_no_command_opens_what_is_not_listed(
    run: Run, root: Path, opened: list[str], question: tuple[str, ...], tmp_path: Path
) -> None:
    places = {"ROOT": root, "A": root / "a", "B": root / "b", "OUT": tmp_path / "out"}
    ran = run(*(places.get(word, word) for word in question))
    assert ran.code in (0, 1), ran.err
    names = {*map(os.path.basename, opened)}
    assert "meta.json" in names
    assert not set(UNLISTED) & names


@pytest.mark.torch
def test_a_load_opens_none_of_them(root: Path, opened: list[str]) -> None:
    from smartcash_format import load_checkpoint

    assert load_checkpoint(root / "a")["optimizer_state_dict"]
    names = {*map(os.path.basename, opened)}
    assert "optimizer.pt" in names
    assert not set(UNLISTED) & names


def test_each_of_them_is_named(root: Path) -> None:
    report = validate(root / "a", Depth.META)
    assert report.problems == ()
    named = [f"{name} is not listed in meta.json" for name in sorted(UNLISTED)]
    assert sorted(report.notices) == named
