"""The command line: what it prints, where, and with which exit code; no torch in any of it."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from smartcash_format.cli.main import main
from smartcash_format.testing.sample import write_sample
from tests.store.checkpoints import write_checkpoint


class Ran:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["smartcash-format", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        code = stopped.value.code
        return Ran(code if isinstance(code, int) else 0, printed.out, printed.err)

    return call


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


def test_a_formula_in_foreign_text_is_text_in_csv(run: Run, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, backbone="=HYPERLINK(1)", tags=["\x1b[31mred"])
    printed = run("ls", tmp_path, "--format", "csv").out
    (row,) = csv.DictReader(io.StringIO(printed))
    assert row["backbone"] == "'=HYPERLINK(1)"
    assert "\x1b" not in printed


def test_escape_sequences_of_foreign_metadata_are_shown_never_obeyed(
    run: Run, tmp_path: Path
) -> None:
    path = write_checkpoint(
        tmp_path, 1, metrics={"\x1b[2J\u202e": 1.0}, backbone="\x9b31m", config={"\x07": "\x1b]0;x"}
    )
    for arguments in (("ls", tmp_path), ("show", path), ("prune", tmp_path), ("best", tmp_path)):
        ran = run(*arguments)
        assert not set(ran.out + ran.err) & {"\x1b", "\x07", "\x9b", "\u202e"}


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
    ("arguments", "code", "words"),
    [
        (("ls", "nowhere"), 3, "no such directory"),
        (("ls", ".", "--where", "nonsense"), 2, "no comparison"),
        (("ls", ".", "--best", "val_map"), 2, "METRIC:max"),
        (("bogus",), 2, "bogus"),
        (("show", "nowhere"), 1, "no such checkpoint"),
        (("show", "."), 3, "meta.json"),
        (("validate", ".", "--max-size", "big"), 2, "500MB"),
        (("schema", "none"), 2, "there are"),
    ],
)
def test_an_error_is_one_line_on_stderr_with_its_exit_code(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...], code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    ran = run(*arguments)
    assert ran.code == code
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert not ran.out


def test_report_writes_one_file_and_says_which(run: Run, root: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    ran = run("report", root, "-o", target, "--best", "val_map:max")
    assert ran.code == 0
    assert f"{target}: 3 checkpoints" in ran.out
    assert "val_map 0.3000; larger is better." in target.read_text(encoding="utf-8")
    assert run("report", tmp_path / "nowhere", "-o", target).code == 3


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
