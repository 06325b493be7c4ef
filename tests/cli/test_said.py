"""What a command says on standard error is said, whatever its answer meets or lacks."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.spec import layout
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run
from tests.store.checkpoints import write_checkpoint


def write_broken(root: Path, name: str) -> Path:
    (root / name).mkdir(parents=True)
    (root / name / layout.META).write_text("{")
    return root / name


def test_a_name_with_a_line_break_hides_no_broken_one(run: Run, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, name="line\nbreak")
    torn = write_broken(tmp_path, "torn")
    ran = run("ls", tmp_path, "--format", "paths")
    assert ran.code == 2
    assert f"{torn}: meta.json: is not JSON" in ran.err


def test_a_name_with_a_line_break_keeps_doctor_from_nothing(run: Run, tmp_path: Path) -> None:
    write_broken(tmp_path, "line\nbreak")
    history = tmp_path / layout.HISTORY
    history.write_text('- {"event": "save"\n')
    ran = run("doctor", tmp_path, "--format", "paths", "--fix")
    assert ran.code == 2
    assert "there is no checkpoint that can be read" in ran.err
    assert "1 torn history line mended" in ran.err
    assert history.read_text().startswith("#")


@pytest.mark.parametrize("order", ["metrics.val_mpa", "-metrics.val_mpa"])
def test_an_order_by_a_metric_that_none_has_is_told(run: Run, tmp_path: Path, order: str) -> None:
    write_checkpoint(tmp_path, 1, metrics={"val_map": 0.5})
    ran = run("ls", tmp_path, "--sort", order)
    assert ran.code == 0
    assert "no checkpoint has the metric 'val_mpa'; did you mean 'val_map'?" in ran.err
    assert run("ls", tmp_path, "--sort", "-metrics.val_map").err == ""


@pytest.mark.parametrize("command", ["ls", "best"])
def test_a_metric_without_a_name_is_no_field(run: Run, tmp_path: Path, command: str) -> None:
    write_checkpoint(tmp_path, 1, metrics={"val_map": 0.5})
    ran = run(command, tmp_path, "--where", "metrics.>=0")
    assert ran.code == 2
    assert "there is no field 'metrics.'" in ran.err


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"lr": 0.1, "train_loss": 0.4, "val_loss": 0.5}, "such as --metric val_loss:min"),
        ({"lr": 0.1, "mAP50 (all)": 0.4}, "such as --metric 'mAP50 (all):max'"),
        ({}, "and none has a metric to ask by"),
    ],
)
def test_best_names_a_metric_that_is_there_when_none_is_flagged(
    run: Run, tmp_path: Path, metrics: dict[str, float], said: str
) -> None:
    write_checkpoint(tmp_path, 1, metrics=metrics)
    write_checkpoint(tmp_path, 2, metrics=metrics)
    ran = run("best", tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("smartcash-format: none of 2 checkpoints is flagged best")
    assert ran.err.endswith(f"{said}\n")


def test_best_tells_conditions_that_none_meets_from_an_empty_root(run: Run, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, is_best=True)
    ran = run("best", tmp_path, "--where", "tags=relase")
    assert (ran.code, ran.err) == (1, "smartcash-format: no checkpoint meets every --where\n")


@pytest.mark.parametrize(
    ("command", "closed"),
    [("show", layout.META), ("tensors", layout.TENSORS), ("diff", layout.TENSORS)],
)
def test_what_may_not_be_read_is_named_with_its_checkpoint(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, closed: str
) -> None:
    path = write_checkpoint(tmp_path, 1)
    opened = os.open

    def refuse(name: str | Path, flags: int, **more: Any) -> int:
        if Path(name).name == closed:
            raise PermissionError(13, "Permission denied", str(name))
        return opened(name, flags, **more)

    monkeypatch.setattr(os, "open", refuse)
    ran = run(command, path, *([path] if command == "diff" else []))
    assert ran.code == 3
    assert ran.err.startswith(f"smartcash-format: {path / closed}: Permission denied; check who")


def test_a_part_of_a_checkpoint_does_not_pass_with_its_root(run: Run, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1)
    half = write_checkpoint(tmp_path, 2)
    (half / layout.META).unlink()
    (tmp_path / "plots").mkdir()
    ran = run("validate", tmp_path, "--depth", "meta", "--format", "paths")
    assert (ran.code, ran.out) == (1, f"{half}\n")


def test_a_tree_of_roots_is_pointed_into(run: Run, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "runs" / "a", 1)
    ran = run("validate", tmp_path / "runs")
    assert ran.code == 1
    assert f"smartcash-format ls -r {tmp_path / 'runs'} shows those below it" in ran.err


def test_schemas_are_written_into_a_directory_that_is_made(run: Run, tmp_path: Path) -> None:
    assert run("schema", "--write", tmp_path / "a" / "b").code == 0
    assert sorted(os.listdir(tmp_path / "a" / "b")) == sorted(run("schema").out.split())
    ran = run("schema", "meta-v1.schema.json", "--write", tmp_path)
    assert (ran.code, os.listdir(tmp_path)) == (2, ["a"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("command", ["tensors", "diff"])
def test_what_is_no_plain_file_is_named_with_its_checkpoint_and_a_fix(
    run: Run, tmp_path: Path, command: str
) -> None:
    pipe = write_sample(tmp_path, epoch=1) / layout.TENSORS
    link = write_sample(tmp_path, epoch=2) / layout.TENSORS
    for path in (pipe, link):
        path.unlink()
    os.mkfifo(pipe)
    link.symlink_to(tmp_path)
    for path, kind in ((pipe, "a named pipe"), (link, "a symbolic link")):
        ran = run(command, path.parent, *([path.parent] if command == "diff" else []))
        said = f"{path}: is {kind}, not a plain file; put the file itself there"
        assert (ran.code, ran.err) == (3, f"smartcash-format: {said}\n")


@pytest.mark.parametrize(
    "arguments",
    [["ls", ""], ["prune", "", "--apply"], ["show", ""], ["best", "a", ""], ["validate", ""]],
    ids=" ".join,
)
def test_a_variable_that_is_not_set_is_not_the_current_directory(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    for number in range(1, 9):
        write_checkpoint(tmp_path, number)
    monkeypatch.chdir(tmp_path)
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "an argument is empty" in ran.err
    assert len(os.listdir(tmp_path)) == 8


def test_a_history_that_tells_nothing_is_no_root_without_checkpoints(
    run: Run, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, 1)
    (tmp_path / layout.HISTORY).write_text("- {torn\n")
    ran = run("history", tmp_path)
    assert ran.code == 1
    assert f"{tmp_path} has 1 checkpoint, and its training_history.yaml tells of no save" in ran.err
    (tmp_path / layout.HISTORY).unlink()
    assert run("history", tmp_path).code == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_doctor_finds_a_history_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    write_broken(tmp_path, "torn")
    os.mkfifo(tmp_path / layout.HISTORY)
    ran = run("doctor", tmp_path, "--format", "json")
    assert ran.code == 1
    findings = json.loads(ran.out)["findings"]
    assert [each["kind"] for each in findings] == ["broken", "history"]
    assert "is a named pipe, not a plain file; move it away" in findings[1]["message"]
    assert not findings[1]["fixable"]


def test_a_report_that_cannot_be_written_is_named_as_it_was_given(run: Run, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "root", 1)
    file = tmp_path / "nosuch" / "report.html"
    ran = run("report", tmp_path / "root", "-o", file)
    said = f"{file}: No such file or directory; check the path"
    assert (ran.code, ran.err) == (3, f"smartcash-format: {said}\n")


def test_a_write_that_fails_says_where_and_what_to_do(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sample(tmp_path / "root", epoch=1)
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if "shared" in str(target):
            raise OSError(errno.EDQUOT, "Disk quota exceeded", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    ran = run("share", path, "-o", tmp_path / "shared")
    assert ran.code == 3
    where = f"in {tmp_path / 'shared'}: free some of your quota and run it again"
    assert ran.err.endswith(
        f"Disk quota exceeded; every earlier checkpoint is untouched; {where}\n"
    )


@pytest.mark.parametrize("foreign", [None, "epoch: [1\n"])
def test_a_history_that_is_made_of_the_checkpoints_says_so(
    run: Run, tmp_path: Path, foreign: str | None
) -> None:
    write_checkpoint(tmp_path, 1)
    if foreign is not None:
        (tmp_path / layout.HISTORY).write_text(foreign)
    ran = run("history", tmp_path)
    assert ran.code == 0
    assert ran.err == (
        f"smartcash-format: {tmp_path} has no training_history.yaml of this format: made of its "
        "checkpoints, without those that are gone\n"
    )


def test_a_history_of_a_root_whose_checkpoints_are_broken_leads_to_the_doctor(
    run: Run, tmp_path: Path
) -> None:
    root = tmp_path / "the root"
    write_broken(root, "torn")
    ran = run("history", root)
    assert ran.code == 1
    assert ran.err.endswith(f"cannot be read; smartcash-format doctor '{root}' says why\n")


def test_a_leftover_that_is_none_leads_to_those_that_are(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "the root"
    write_checkpoint(root, 1)
    ran = run("doctor", root, "--clear", "x")
    assert ran.code == 2
    assert ran.err.endswith(f": smartcash-format doctor '{root}' lists them\n")


def test_a_link_to_nothing_is_no_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    ran = run("show", tmp_path / "link")
    assert ran.code == 3
    assert "link: is a link, and what it leads to is not there" in ran.err
