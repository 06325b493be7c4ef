"""The answers of `validate` as rows and paths, and what it says of requirements."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from smartcash_format.store.catalog import read_entry
from smartcash_format.store.entry import Entry
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run
from tests.store.checkpoints import write_checkpoint


def test_validate_gives_its_findings_as_rows_and_the_paths_that_do_not_pass(
    run: Run, tmp_path: Path
) -> None:
    good, low, bad = (write_sample(tmp_path, epoch=epoch) for epoch in (3, 2, 1))
    (bad / "model.safetensors").unlink()
    (bad / "optimizer.pt").unlink()
    asked = ("validate", good, low, bad, "--require", "epoch>=3")
    printed = run(*asked, "--format", "csv")
    assert printed.code == 1
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [(row["path"], row["valid"], row["passed"], row["code"]) for row in rows] == [
        (str(good), "true", "true", ""),
        (str(low), "true", "false", ""),
        *[(str(bad), "false", "false", "file-missing")] * 2,
    ]
    assert rows[1]["message"] == "epoch>=3 does not hold: it is 2"
    assert all(rows[2][name] for name in ("where", "message", "found", "expected", "fix"))
    ran = run(*asked, "--format", "paths")
    assert (ran.code, ran.out.splitlines()) == (1, [str(low), str(bad)])
    ran = run("validate", good, "--format", "paths")
    assert (ran.code, ran.out) == (0, "")


def test_what_is_not_whole_is_not_said_to_have_changed_meanwhile(run: Run, tmp_path: Path) -> None:
    bad = write_sample(tmp_path, epoch=1)
    (bad / "optimizer.pt").unlink()
    for gate in (("--require", "epoch>=1"), ("--max-size", "1GB")):
        ran = run("validate", bad, *gate, "--format", "json")
        assert ran.code == 1
        (report,) = json.loads(ran.out)["reports"]
        assert [problem["code"] for problem in report["problems"]] == ["file-missing"]
        assert report["unmet"] == []


def test_a_size_that_is_just_reached_passes(run: Run, tmp_path: Path) -> None:
    path = write_sample(tmp_path, epoch=1)
    entry = read_entry(path)
    assert isinstance(entry, Entry)
    assert run("validate", path, "--max-size", f"{entry.size_bytes}B").code == 0
    assert run("validate", path, "--max-size", f"{entry.size_bytes - 1}B").code == 1


def test_a_requirement_on_what_is_not_there_says_so(run: Run, tmp_path: Path) -> None:
    path = write_sample(tmp_path, epoch=1)
    for required in ("tags==release", "step>=1", "backbone==b4"):
        ran = run("validate", path, "--require", required, "--format", "json")
        (report,) = json.loads(ran.out)["reports"]
        assert report["unmet"] == [f"{required} does not hold: it says nothing there"]


def test_a_requirement_on_a_metric_that_is_not_there_names_those_that_are(
    run: Run, tmp_path: Path
) -> None:
    metrics = {f"m{number}": 0.5 for number in range(10)}
    path = write_checkpoint(tmp_path, 1, metrics=metrics)
    bare = write_checkpoint(tmp_path, 2, metrics={})
    ran = run("validate", path, bare, "--depth", "meta", "--require", "metrics.val_map>=0.4")
    said = "metrics.val_map>=0.4 does not hold: it says nothing there; its metrics are"
    named = ", ".join(f"'m{number}'" for number in range(8))
    assert f"{said} {named} and 2 more\n" in ran.out
    assert f"{said} none\n" in ran.out


@pytest.mark.parametrize("form", ["paths", "junit", "github", "json"])
def test_a_checkpoint_that_is_named_twice_is_judged_once(
    run: Run, tmp_path: Path, form: str
) -> None:
    for epoch in (1, 2):
        path = write_checkpoint(tmp_path, epoch)
    asked = (path, tmp_path, path / "meta.json", "--depth", "content", "--format", form)
    once = run("validate", tmp_path, *asked[3:])
    ran = run("validate", *asked)
    assert sorted(ran.out.splitlines()) == sorted(once.out.splitlines())
    assert ran.out.count(path.name) == once.out.count(path.name) > 0
