"""What cannot be read is named beside what can."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.store.checkpoints import write_checkpoint


@pytest.mark.parametrize("form", ["csv", "paths"])
def test_ls_names_each_broken_one_and_why_on_stderr(run: Run, tmp_path: Path, form: str) -> None:
    broken = [tmp_path / "root" / name for name in ("torn", "empty")]
    for path, text in zip(broken, ("{", ""), strict=True):
        path.mkdir(parents=True)
        (path / "meta.json").write_text(text)
    ran = run("ls", tmp_path / "root", "--format", form)
    assert ran.code == 1
    assert "torn" not in ran.out
    lines = sorted(ran.err.splitlines())
    assert len(lines) == 2
    for line, path in zip(lines, sorted(broken), strict=True):
        assert line.startswith(f"smartcash-format: {path}: meta.json: is not JSON")
    whole = write_checkpoint(tmp_path / "root", 1)
    ran = run("ls", tmp_path / "root", "--format", form)
    assert ran.code == 0
    assert whole.name in ran.out
    assert sorted(ran.err.splitlines()) == lines


@pytest.mark.parametrize("form", ["table", "json"])
def test_what_the_answer_has_is_not_said_again(run: Run, tmp_path: Path, form: str) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "meta.json").write_text("{")
    ran = run("ls", tmp_path, "--format", form)
    assert "is not JSON" in ran.out
    assert ran.err == ""
