"""Rows for a program or a spreadsheet."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.store.checkpoints import write_checkpoint, write_weighed


def test_csv_without_a_row_has_the_line_of_its_columns(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    root = tmp_path / "root"
    write_checkpoint(root, 1, metrics={})
    weightless = write_weighed(tmp_path, 1, {})
    for command in ("ls", "prune", "history"):
        (columns,) = run(command, tmp_path / "empty", "--format", "csv").out.splitlines()
        assert columns == run(command, root, "--format", "csv").out.splitlines()[0]
    (columns,) = run("diff", weightless, weightless, "--format", "csv").out.splitlines()
    other = write_weighed(tmp_path, 2, {"w": 1.0})
    assert columns == run("diff", weightless, other, "--format", "csv").out.splitlines()[0]
    (columns,) = run("doctor", tmp_path / "empty", "--format", "csv").out.splitlines()
    (root / "torn").mkdir()
    (root / "torn" / "meta.json").write_text("{")
    assert columns == run("doctor", root, "--format", "csv").out.splitlines()[0]
    (columns,) = run("tensors", weightless, "--format", "csv").out.splitlines()
    weighed = run("tensors", other, "--format", "csv").out
    assert columns == weighed.splitlines()[0]


@pytest.mark.attack("move", "a formula for a spreadsheet", "text")
def test_a_formula_in_foreign_text_is_text_in_csv(run: Run, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, backbone="=HYPERLINK(1)", tags=["\x1b[31mred"])
    printed = run("ls", tmp_path, "--format", "csv").out
    (row,) = csv.DictReader(io.StringIO(printed))
    assert row["backbone"] == "'=HYPERLINK(1)"
    assert "\x1b" not in printed


def test_the_best_in_csv_is_its_row_of_the_listing(run: Run, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_checkpoint(tmp_path, number, metrics={"val_map": 0.1 * (number % 3)})
    head, *rows = run("ls", tmp_path, "--format", "csv").out.splitlines()
    ran = run("best", tmp_path, "--metric", "val_map:max", "--format", "csv")
    assert (ran.code, ran.out.splitlines()) == (0, [head, rows[1]])
