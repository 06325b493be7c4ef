"""`convert`: the plan, the checkpoints, and what it says of what it does not take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.store.catalog import scan
from tests.cli.conftest import Run

pytestmark = pytest.mark.torch


def _write(path: Path) -> Path:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    value = {"model_state_dict": {"w": torch.ones(3)}, "epoch": 4, "metrics": {"val_map": 0.5}}
    torch.save(value, path)
    return path


def test_a_dry_run_says_of_each_field_how_it_was_come_by(run: Run, tmp_path: Path) -> None:
    source = _write(tmp_path / "best.pth")
    ran = run("convert", source, "-o", tmp_path / "root", "--dry-run")
    assert ran.code == 0
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["->", "planned"] in lines
    assert ["epoch", "read", "epoch"] in lines
    assert ["is_best", "inferred", "the", "name", "of", "the", "file"] in lines
    assert ["optimizer", "unknown", "the", "source", "has", "none"] in lines
    assert not (tmp_path / "root").exists()


def test_json_has_the_whole_plan_and_where_it_went(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "root"
    arguments = ("convert", _write(tmp_path / "last.pth"), "-o", root, "--format", "json")
    ran = run(*arguments)
    document = json.loads(ran.out)
    assert (ran.code, document["kind"]) == (0, "smartcash-format/conversions")
    (done,) = document["conversions"]
    assert done["path"] == str(scan(root)[0])
    assert (done["already"], done["tensors"], done["dropped"]) == (False, 1, [])
    again = json.loads(run(*arguments).out)["conversions"][0]
    assert (again["already"], again["path"]) == (True, done["path"])
    assert "there already" in run(*arguments[:-2]).out


def test_one_source_that_is_refused_stops_no_other(run: Run, tmp_path: Path) -> None:
    _write(tmp_path / "old" / "a.pt")
    (tmp_path / "old" / "b.pt").write_bytes(b"not a torch file")
    ran = run("convert", tmp_path / "old", "-o", tmp_path / "root")
    assert ran.code == 3
    assert "b.pt was not read: 'no torch file'" in ran.err
    assert len(scan(tmp_path / "root")) == 1


def test_one_source_that_cannot_be_opened_stops_no_other(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [_write(tmp_path / name) for name in ("a.pt", "b.pt")]
    opened = Path.open

    def refusing(self: Path, *arguments: Any, **named: Any) -> Any:
        if self.name == "a.pt":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", refusing)
    ran = run("convert", *sources, "-o", tmp_path / "root")
    assert ran.code == 3
    assert "Permission denied" in ran.err
    assert len(scan(tmp_path / "root").entries) == 1


def test_what_is_not_there_is_said(run: Run, tmp_path: Path) -> None:
    ran = run("convert", tmp_path / "no.pt", "-o", tmp_path / "root")
    assert (ran.code, ran.out) == (3, "")
    said = f"smartcash-format: {tmp_path / 'no.pt'}: no such file or directory; "
    assert ran.err.startswith(said)
