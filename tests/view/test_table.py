"""The table of a listing at the widths that people have, and where nobody looks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from smartcash_format.store.catalog import scan
from smartcash_format.view.table import display, listing_table, summary
from tests.store.checkpoints import START, write_checkpoint

NOW = START + timedelta(hours=5)
METRICS = {"val_map": 0.4321, "val_loss": 1.25, "precision": 0.5, "recall": 0.75}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "weights"
    for number in (1, 2):
        metrics = {name: value * number for name, value in METRICS.items()}
        write_checkpoint(root, number, is_best=number == 2, metrics=metrics, step=number * 1000)
    (root / "epoch-0003-torn").mkdir()
    (root / "epoch-0003-torn" / "meta.json").write_text("{")
    return root


def rendered(root: Path, width: int) -> list[str]:
    listing = scan(root)
    console = Console(width=width, color_system=None)
    table = listing_table(listing, best=listing[0], now=NOW, width=width)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


SNAPSHOTS = {
    80: """
   checkpoint                epoch  step  precision  recall     size  parts  age
★  epoch-0002-step-0000200…      2  2000          1  1.5000  16.0 kB   WOS·  5 h
   epoch-0001-step-0000100…      1  1000     0.5000  0.7500  16.0 kB   WOS·  5 h
!  epoch-0003-torn
""",
    120: """
   checkpoint                         epoch  step  precision  recall  val_loss  val_map     size  parts  age
★  epoch-0002-step-00002000-00000002      2  2000          1  1.5000    2.5000   0.8642  16.0 kB   WOS·  5 h
   epoch-0001-step-00001000-00000001      1  1000     0.5000  0.7500    1.2500   0.4321  16.0 kB   WOS·  5 h
!  epoch-0003-torn
""",  # noqa: E501
}


@pytest.mark.parametrize("width", SNAPSHOTS)
def test_a_narrow_terminal_shows_fewer_metrics_and_cuts_nothing(root: Path, width: int) -> None:
    assert "\n".join(rendered(root, width)) == SNAPSHOTS[width].strip("\n")


@pytest.mark.parametrize("width", [200, 100_000])
def test_where_there_is_room_and_where_nobody_looks_nothing_is_left_out(
    root: Path, width: int
) -> None:
    lines = rendered(root, width)
    assert lines == rendered(root, 120)
    assert all(name in lines[0] for name in METRICS)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_long_name_gives_way_and_no_number_does(tmp_path: Path, width: int) -> None:
    write_checkpoint(tmp_path, 1, name="n" * 200, metrics=METRICS)
    (line,) = rendered(tmp_path, width)[1:]
    assert len(line) <= width
    assert "n…" in line
    assert line.endswith("16.0 kB   WOS·  5 h")


def test_display_is_uncut_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path, 1, name="n" * 200, metrics=METRICS)
    listing = scan(tmp_path)
    display(listing, best=None, root=tmp_path)
    printed = capsys.readouterr().out
    assert "n" * 200 in printed
    assert summary(listing, best=None) in printed


def test_the_path_above_is_in_one_line_however_narrow_its_table(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(root / ("deep/" * 40))
    table = listing_table(scan(root), best=None, now=NOW, title=path, width=100_000)
    Console(width=100_000, force_terminal=False).print(table)
    assert path in capsys.readouterr().out.splitlines()[0]


def test_the_summary_explains_the_letters_of_the_parts(root: Path) -> None:
    listing = scan(root)
    line = summary(listing, best=None)
    assert line.endswith("parts: W weights, O optimizer, S scheduler, X extra")
