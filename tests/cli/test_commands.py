"""The command line: what it prints, where, and with which exit code; no torch in any of it."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from smartcash_format.cli.commands import ls, validate
from smartcash_format.spec import watching
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run
from tests.store.checkpoints import OTHER_RUN, RUN, identifier, write_checkpoint, write_weighed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        write_checkpoint(
            tmp_path / "root", number, is_best=number == 2, metrics={"val_map": number / 10}
        )
    return tmp_path / "root"


def test_ls_lists_newest_first_with_a_star_for_the_best(run: Run, root: Path) -> None:
    ran = run("ls", root)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert next(line for line in lines if line.startswith("★")).split()[2] == "2"
    assert sum("epoch-" in line for line in lines[:-1]) == 3
    assert "3 checkpoints" in lines[-1]


@pytest.mark.parametrize(
    "command",
    [["ls"], ["best"], ["report", "-o", "-"], ["history"], ["doctor"], ["prune"]],
    ids=lambda command: command[0],
)
def test_where_roots_lie_below_a_command_says_how_to_see_them(
    run: Run, root: Path, command: list[str]
) -> None:
    above = root.parent
    said = f"{above} has no checkpoint of its own; smartcash-format ls -r {above} shows those below"
    assert said in run(*command, above).err
    assert "of its own" not in run(*command, root).err
    (above / "empty").mkdir()
    assert "of its own" not in run(*command, above / "empty").err


def test_ls_filters_sorts_and_prints_paths(run: Run, root: Path) -> None:
    ran = run("ls", root, "--where", "metrics.val_map>=0.2", "--sort", "epoch", "--format", "paths")
    assert [Path(line).name[:10] for line in ran.out.splitlines()] == ["epoch-0002", "epoch-0003"]
    ran = run("ls", root, "--where", "epoch>99")
    assert ran.code == 1


def test_ls_json_and_csv_are_machine_readable(run: Run, root: Path) -> None:
    found = json.loads(run("ls", root, "--format", "json").out)
    assert found["kind"] == "smartcash-format/list"
    assert found["version"] == 1
    assert [each["epoch"] for each in found["checkpoints"]] == [3, 2, 1]
    assert found["best"].endswith(found["checkpoints"][1]["name"])
    rows = list(csv.DictReader(io.StringIO(run("ls", root, "--format", "csv").out)))
    assert [row["metrics.val_map"] for row in rows] == ["0.3", "0.2", "0.1"]


def test_best_prints_one_path_or_says_why_not(run: Run, root: Path) -> None:
    assert "epoch-0002" in run("best", root).out
    assert "epoch-0003" in run("best", root, "--metric", "val_map:max").out
    ran = run("best", root, "--metric", "loss:min")
    assert ran.code == 1
    assert "loss" in ran.err


def test_validate_names_every_finding_and_gates(run: Run, tmp_path: Path) -> None:
    good = write_sample(tmp_path, epoch=1)
    bad = write_sample(tmp_path, epoch=2)
    (bad / "model.safetensors").write_bytes(b"short")
    ran = run("validate", tmp_path)
    assert ran.code == 1
    assert "file-size" in ran.out
    assert run("validate", good, "--depth", "content").code == 0
    assert run("validate", good / "meta.json").code == 0
    ran = run("validate", good, "--require", "epoch>=9", "--max-size", "10B")
    assert ran.code == 1
    assert "epoch>=9 does not hold: it is 1" in ran.out
    assert "over 10 B" in ran.out


def test_validate_speaks_to_ci(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = write_sample(tmp_path / "root", epoch=2)
    (bad / "model.safetensors").unlink()
    report = run("validate", bad, "--format", "junit").out
    suite = ElementTree.fromstring(report)
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    lines = run("validate", bad, "--format", "github").out.splitlines()
    assert lines[0].startswith("::error file=")
    assert "file-missing" in summary.read_text()
    found = json.loads(run("validate", bad, "--format", "json").out)
    assert found["reports"][0]["problems"][0]["code"] == "file-missing"


def test_diff_tells_the_same_from_the_different(run: Run, tmp_path: Path) -> None:
    first, second = write_sample(tmp_path, epoch=1), write_sample(tmp_path, epoch=2)
    assert run("diff", first, first).code == 0
    assert run("diff", first, tmp_path / "nowhere").code == 3
    ran = run("diff", first, second)
    assert ran.code == 1
    assert "other weights" in ran.out
    found = json.loads(run("diff", first, second, "--format", "json").out)
    assert found["weights"][0]["verdict"] == "different"


def test_prune_removes_nothing_until_it_is_told_to(run: Run, tmp_path: Path) -> None:
    for epoch in range(1, 5):
        write_sample(tmp_path, epoch=epoch)
    ran = run("prune", tmp_path, "--keep-last", "2")
    assert ran.out.count("remove ") == 2
    assert len(list(tmp_path.glob("epoch-*"))) == 4
    ran = run("prune", tmp_path, "--keep-last", "2", "--apply", "--format", "json")
    assert len(list(tmp_path.glob("epoch-*"))) == 2
    assert [d["action"] for d in json.loads(ran.out)["decisions"]].count("remove") == 2


def test_prune_strips_old_resume_state_and_its_json_says_what_was_done(
    run: Run, tmp_path: Path
) -> None:
    for epoch in range(1, 4):
        write_sample(tmp_path, epoch=epoch, saved_at=datetime(2026, 1, epoch, tzinfo=UTC))
    options = (tmp_path, "--keep-last", "2", "--drop-resume-state", "1")
    ran = run("prune", *options)
    assert "--apply removes 1 and strips 1" in ran.err
    assert json.loads(run("prune", *options, "--format", "json").out)["applied"] is None
    ran = run("prune", *options, "--apply", "--format", "json")
    plan = json.loads(ran.out)
    assert [decision["action"] for decision in plan["decisions"]] == ["remove", "strip", "keep"]
    assert plan["applied"]["removed"] == [plan["decisions"][0]["path"]]
    (stripped,) = plan["applied"]["stripped"]
    assert sorted(map(str, tmp_path.glob("epoch-*"))) == sorted(
        [stripped, plan["decisions"][2]["path"]]
    )
    assert "1 removed, 1 stripped" in ran.err


def test_show_tensors_history_and_schema_answer(run: Run, tmp_path: Path) -> None:
    path = write_sample(tmp_path, epoch=1)
    assert "files" in run("show", path).out
    assert json.loads(run("show", path, "--format", "json").out)["meta"]["epoch"] == 1
    assert "stem" in run("tensors", path, "--tree").out
    rows = json.loads(run("tensors", path, "--format", "json").out)["tensors"]
    assert {row["name"] for row in rows} == {"head.bias", "head.weight", "stem.weight"}
    assert rows[0]["shape"] == [20]
    rows = list(csv.DictReader(io.StringIO(run("tensors", path, "--format", "csv").out)))
    assert rows[0]["shape"] == "20"
    assert run("history", tmp_path).code == 0
    names = run("schema").out.split()
    assert "meta-v1.schema.json" in names
    assert json.loads(run("schema", "meta-v1.schema.json").out)["$schema"]


@pytest.mark.parametrize(
    ("arguments", "code", "words", "fix"),
    [
        (("ls", "nowhere"), 3, "no such directory", "check the path"),
        (("prune", "nowhere"), 3, "no such directory", "check the path"),
        (("doctor", "nowhere"), 3, "no such directory", "check the path"),
        (("history", "nowhere"), 3, "no such directory", "check the path"),
        (("ls", "file"), 3, "is no directory", "check the path"),
        (("ls", "whole"), 2, "is a checkpoint", "smartcash-format show whole"),
        (("ls", ".", "--where", "nonsense"), 2, "no comparison", "metrics.val_map>=0.5"),
        (("ls", ".", "--best", "val_map"), 2, "no metric and mode", "METRIC:max"),
        (("ls", ".", "--bogus"), 2, "--bogus", "smartcash-format ls --help"),
        (("ls",), 2, "ROOT", "smartcash-format ls --help"),
        (("bogus",), 2, "bogus", "smartcash-format --help"),
        (("prune", ".", "--keep-last", "x"), 2, "--keep-last", "smartcash-format prune --help"),
        (("validate", ".", "--depth", "x"), 2, "'x'", "smartcash-format validate --help"),
        (("show", "nowhere"), 3, "no such checkpoint", "smartcash-format ls . shows"),
        (("show", "no/where"), 3, "no such checkpoint", "check the path"),
        (("tensors", "nowhere"), 3, "no such checkpoint", "smartcash-format ls . shows"),
        (("share", "nowhere", "-o", "new"), 3, "no such checkpoint", "smartcash-format ls . shows"),
        (("receive", "nowhere", "-o", "new"), 3, "nowhere: no such directory", "ls /"),
        (("receive", "empty", "-o", "new"), 1, "empty has no checkpoint", "empty shows"),
        (("diff", "nowhere", "whole"), 3, "no such checkpoint", "smartcash-format ls . shows"),
        (("show", "."), 3, "meta.json", "meta.json"),
        (("best", "."), 1, "is flagged best", "--metric"),
        (("validate", ".", "--max-size", "big"), 2, "no size", "500MB"),
        (("schema", "none"), 2, "no schema", "there are"),
        (("report", ".", "-o", "no/where.html"), 3, "No such file", "check the path"),
    ],
)
def test_an_error_is_one_line_on_stderr_with_what_to_do_and_its_exit_code(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...], code: int, words: str, fix: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    write_checkpoint(tmp_path, 1, name="whole")
    ran = run(*arguments)
    assert ran.code == code
    assert words in ran.err
    assert fix in ran.err
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("smartcash-format: ")
    assert not ran.out


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "who may"),
        (errno.EIO, "go on from a copy"),
        (errno.EROFS, "read only"),
    ],
)
def test_an_error_of_the_system_names_the_file_and_says_what_to_do(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, fix: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), "the/file")

    monkeypatch.setattr(ls, "listing_table", fail)
    ran = run("ls", root)
    assert ran.code == 3
    assert ran.err.startswith(f"smartcash-format: the/file: {os.strerror(number)}; ")
    assert fix in ran.err


def test_without_arguments_the_help_is_shown(run: Run) -> None:
    ran = run()
    assert ran.code == 2
    assert "Commands:" in ran.err


def test_a_missing_path_and_a_failing_disk_cost_no_other_verdict(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, shut = write_sample(tmp_path, epoch=1), write_sample(tmp_path, epoch=2)
    real = os.open

    def refuse(path: object, *arguments: Any, **options: Any) -> int:
        if str(path) == str(shut):
            raise OSError(errno.EIO, "Input/output error", str(shut))
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    ran = run("validate", tmp_path / "nowhere", shut, good)
    assert ran.code == 3
    assert f"ok  {good}" in ran.out
    assert "does not exist" in ran.out
    assert "cannot be read: Input/output error [file-unreadable] -> " in ran.out
    ran = run("validate", good, tmp_path / "nowhere", "--format", "json")
    assert ran.code == 3
    assert [each["valid"] for each in json.loads(ran.out)["reports"]] == [True, False]


def test_a_root_that_cannot_be_listed_is_a_verdict(
    run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write_sample(tmp_path, epoch=1)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(validate, "scan", refuse)
    ran = run("validate", root, good)
    assert ran.code == 1
    assert f"BAD {root}" in ran.out
    assert f"ok  {good}" in ran.out


@pytest.mark.parametrize("gate", [["--require", "epoch>=1"], ["--max-size", "1GB"]])
def test_a_checkpoint_that_vanishes_after_the_look_does_not_pass_its_gate(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: list[str]
) -> None:
    path = write_sample(tmp_path, epoch=1)
    assert run("validate", path, *gate).code == 0
    monkeypatch.setattr(validate, "read_entry", lambda path: None)
    ran = run("validate", path, *gate)
    assert ran.code == 1
    assert "vanished or changed while it was validated" in ran.out
    assert run("validate", path).code == 0


def test_a_checkpoint_given_as_a_root_is_said_to_be_one(run: Run, root: Path) -> None:
    path = next(root.iterdir())
    (root / "meta.json").write_text("{}")  # of another program, and no reason to refuse a root
    assert run("ls", root).code == 0
    for command in (["ls", path], ["best", path], ["report", path, "-o", root / "x.html"]):
        ran = run(*command)
        assert ran.code == 2
        assert f"smartcash-format show {path}" in ran.err


def test_show_has_the_layers_the_directory_and_says_what_it_could_not_read(
    run: Run, tmp_path: Path
) -> None:
    layers = {f"blocks.{n}.{kind}": 1.0 for n in range(12) for kind in ("weight", "bias")}
    path = write_weighed(tmp_path, 1, layers | {"head.weight": 1.0})
    (path / "notes.md").write_text("mine")
    shown = run("show", path).out
    assert "0 ... 11  (12 alike)" in shown
    assert shown.count("weight  F32 2x2") == 2
    assert "meta.json  this description" in shown
    assert "notes.md  not listed in meta.json" in shown
    (path / "tensors.json").write_bytes((path / "tensors.json").read_bytes()[:-1] + b" ")
    ran = run("show", path)
    assert ran.code == 0
    assert "layers  cannot be shown: tensors.json is not the file that meta.json lists" in ran.out


@pytest.mark.parametrize("depth", ["structure", "content"])
def test_the_bar_of_a_validation_is_moved_byte_by_byte_of_content(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: str
) -> None:
    path = write_sample(tmp_path, epoch=1)
    moved: list[tuple[int, int]] = []

    @contextmanager
    def bar(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
        assert path.name in what
        assert unit == watching.BYTES
        yield lambda done, total: moved.append((done, total))

    monkeypatch.setattr(watching, "_shown_by", [bar])
    assert run("validate", path, "--depth", depth).code == 0
    if depth == "structure":
        assert moved == []
        return
    listed = sum(file.stat().st_size for file in path.iterdir() if file.name != "meta.json")
    assert [done for done, _ in moved] == sorted(done for done, _ in moved)
    assert moved[-1] == (listed, listed)
    assert {total for _, total in moved} == {listed}


def test_report_writes_one_file_and_says_which(run: Run, root: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    ran = run("report", root, "-o", target, "--best", "val_map:max")
    assert ran.code == 0
    assert f"{target}: 3 checkpoints" in ran.out
    assert "val_map 0.3000; larger is better." in target.read_text(encoding="utf-8")
    assert run("report", tmp_path / "nowhere", "-o", target).code == 3
    assert run("report", root, "-o", "-").out.startswith("<!doctype html>")


def test_storage_test_says_what_a_directory_keeps_and_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run("storage-test", tmp_path)
    assert ran.code == 0
    assert "checkpoints can be kept here" in ran.out.splitlines()[0]
    found = json.loads(run("storage-test", tmp_path, "--format", "json").out)
    assert found["usable"] is True
    assert {"rename at once", "hard links", "file fsync"} <= {f["name"] for f in found["findings"]}
    assert list(tmp_path.iterdir()) == []
    assert run("storage-test", tmp_path / "nowhere").code == 3

    def refuse(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    ran = run("storage-test", tmp_path)
    assert ran.code == 1
    assert "NO CHECKPOINTS CAN BE KEPT HERE" in ran.out


def test_a_history_tells_the_branches_of_a_resume_from_epoch_10_of_20_apart(
    run: Run, tmp_path: Path
) -> None:
    for epoch in range(1, 21):
        write_checkpoint(tmp_path, epoch, parent_id=identifier(epoch - 1) if epoch > 1 else None)
    for number in range(21, 31):
        parent, epoch = identifier(10 if number == 21 else number - 1), number - 10
        write_checkpoint(tmp_path, number, epoch=epoch, run_id=OTHER_RUN, parent_id=parent)
    resumed = next(tmp_path.glob("epoch-0010-*")).name
    _, first, second = (line.split() for line in run("history", tmp_path).out.splitlines())
    assert (first[0], first[-4:]) == (RUN[:8], ["1-20", "20", "-", "-"])
    assert (second[0], second[-4:]) == (OTHER_RUN[:8], ["11-20", "10", "-", resumed])
    runs = json.loads(run("history", tmp_path, "--format", "json").out)["runs"]
    assert [each["resumed_from"] for each in runs] == [None, resumed]
    for run_id, count in ((RUN, 20), (OTHER_RUN, 10)):
        asked = ("ls", tmp_path, "--where", f"run_id={run_id[:8]}", "--format", "paths")
        assert len(run(*asked).out.splitlines()) == count
