"""The table of a listing at the widths that people have, and where nobody looks."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.store.catalog import merge, scan
from smartcash_format.store.entry import Broken, Entry
from smartcash_format.store.query import Mode
from smartcash_format.view.table import display, in_place, listing_table, reasons, summary
from smartcash_format.view.terminal import PIPED_WIDTH
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
   checkpoint                epoch  step  val_map  val_loss     size  parts  age
!  epoch-0003-torn
★  epoch-0002-step-0000200…      2  2000   0.8642    2.5000  16.0 kB   WOS·  5 h
   epoch-0001-step-0000100…      1  1000   0.4321    1.2500  16.0 kB   WOS·  5 h
""",
    120: """
   checkpoint                         epoch  step  val_map  val_loss  precision  recall     size  parts  age
!  epoch-0003-torn
★  epoch-0002-step-00002000-00000002      2  2000   0.8642    2.5000          1  1.5000  16.0 kB   WOS·  5 h
   epoch-0001-step-00001000-00000001      1  1000   0.4321    1.2500     0.5000  0.7500  16.0 kB   WOS·  5 h
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


@pytest.mark.parametrize(("width", "left"), [(60, 5), (70, 4), (200, 1), (PIPED_WIDTH, 0)])
def test_the_summary_counts_the_metrics_that_have_no_column(
    root: Path, width: int, left: int
) -> None:
    write_checkpoint(root, 3, metrics={**METRICS, "recall@0.5": 1.0}, step=7)
    listing = scan(root)
    table = listing_table(listing, best=None, now=NOW, width=width)
    headings = {column.heading for column in table.columns}
    assert len({*METRICS, "recall@0.5"} - headings) == left
    line = summary(listing, best=None, table=table)
    told = f"; {left} more metric{'s' if left > 1 else ''}: smartcash-format show; parts"
    assert (told in line) if left else ("more metric" not in line)


def coloured(root: Path, **options: Any) -> list[str]:
    """The rows of a table with the sequences that colour them."""
    console = Console(width=100, color_system="standard", force_terminal=True)
    with console.capture() as captured:
        console.print(listing_table(scan(root), best=None, now=NOW, **options))
    # A number is padded within its colour.
    return [re.sub("m +", "m", line) for line in captured.get().splitlines()[1:]]


FIRST, NEXT, END = "\x1b[1;32m", "\x1b[32m", "\x1b[0m"


@pytest.mark.parametrize(
    ("name", "mode", "ranks"),
    [
        ("val_map", None, [FIRST, NEXT, NEXT, "", ""]),
        ("val_loss", None, ["", "", NEXT, NEXT, FIRST]),
        # What was given stands above what the name says.
        ("val_loss", "max", [FIRST, NEXT, NEXT, "", ""]),
    ],
)
def test_the_best_three_numbers_are_coloured_by_rank(
    tmp_path: Path, name: str, mode: Mode | None, ranks: list[str]
) -> None:
    for number in range(1, 6):
        write_checkpoint(tmp_path, number, metrics={name: number + 0.5})
    rows = coloured(tmp_path, metric=name, mode=mode)
    for row, rank, number in zip(rows, ranks, (5, 4, 3, 2, 1), strict=True):
        shown = f"{number}.5000"
        assert shown in row
        assert f"{rank}{shown}{END if rank else ''}" in row
        assert row.count("\x1b") == (2 if rank else 0)


def test_what_is_level_or_the_worst_is_no_winner(tmp_path: Path) -> None:
    for number, value in enumerate((0.5, 0.5, 0.25), start=1):
        write_checkpoint(tmp_path / "root", number, metrics={"val_map": value, "same": 1.0})
        write_checkpoint(tmp_path / "flat", number, metrics={"val_map": math.nan, "same": 1.0})
    last, *level = coloured(tmp_path / "root")
    assert all(f"{FIRST}0.5000" in row for row in level)
    assert "\x1b" not in last
    for row in coloured(tmp_path / "flat"):
        assert "\x1b[31m" in row  # NaN
        assert "\x1b[32m" not in row


DETECTOR = ("epoch_time", "grad_norm", "lr", "metrics/mAP50-95(B)", "train_loss", "val_loss")


@pytest.mark.parametrize(
    ("width", "metrics"),
    [
        (80, ["…/mAP50-95(B)"]),
        (120, ["…/mAP50-95(B)", "val_loss", "train_loss", "epoch_time"]),
        (100_000, [DETECTOR[3], "val_loss", "train_loss", "epoch_time", "grad_norm", "lr"]),
    ],
)
def test_a_narrow_terminal_shows_what_people_choose_by(
    tmp_path: Path, width: int, metrics: list[str]
) -> None:
    values = dict.fromkeys(DETECTOR, 0.5)
    write_checkpoint(tmp_path, 38, step=19_000, metrics=values)
    line, row = rendered(tmp_path, width)
    assert line.split() == ["checkpoint", "epoch", "step", *metrics, "size", "parts", "age"]
    assert row.split()[1].startswith("epoch-0038-step-00019000")
    assert len(row) <= width


def test_groups_of_a_name_are_left_out_only_where_it_stays_itself(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, metrics={"train/loss": 1, "val/loss": 2, "a/b/c_of_d/": 3})
    heading = rendered(tmp_path, 120)[0].split()
    assert heading[2:5] == ["val/loss", "a/b/c_of_d/", "train/loss"]


def test_where_nothing_says_what_is_better_nothing_is_coloured(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_checkpoint(tmp_path, number, metrics={"grad_norm": number / 7})
    assert not any("\x1b[" in row for row in coloured(tmp_path))


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_metric_that_decides_comes_first_and_stays(root: Path, width: int) -> None:
    table = listing_table(scan(root), best=None, now=NOW, metric="val_map", width=width)
    headings = [column.heading for column in table.columns]
    assert headings[4] == "val_map"


@pytest.mark.parametrize("width", [80, 120, 100_000])
def test_metrics_that_were_asked_for_come_before_those_that_nobody_named(
    tmp_path: Path, width: int
) -> None:
    metrics = {f"m{number:02}_{'x' * 12}": 0.5 for number in range(20)} | {"z": 1.0, "y": 2.0}
    write_checkpoint(tmp_path, 1, metrics=metrics)
    asked = ["z", "nowhere", "y"]
    table = listing_table(scan(tmp_path), best=None, now=NOW, metric="y", asked=asked, width=width)
    assert [column.metric for column in table.columns if column.metric][:2] == ["y", "z"]


def test_a_metric_that_few_have_is_shown_when_it_decides(tmp_path: Path) -> None:
    for number in range(1, 9):
        write_checkpoint(tmp_path, number, metrics=METRICS)
    write_checkpoint(tmp_path, 9, metrics=METRICS | {"rare": 1.0})
    table = listing_table(scan(tmp_path), best=None, now=NOW, metric="rare", width=120)
    assert [column.heading for column in table.columns][3] == "rare"


def test_the_table_of_a_manager_shows_the_metric_that_it_monitors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {f"a{n}": 0.5 for n in range(20)} | {"z_wanted": 1.0}
    write_checkpoint(tmp_path / "root", 1, metrics=metrics)
    manager = CheckpointManager(tmp_path / "root", monitor="z_wanted", mode="min")
    manager.display_checkpoints()
    heading = capsys.readouterr().out.splitlines()[1]
    assert heading.split()[2] == "z_wanted"


def names_of(items: list[Entry | Broken]) -> list[str]:
    return [item.name if isinstance(item, Entry) else item.path.name for item in items]


def make_broken(root: Path, name: str) -> None:
    (root / name).mkdir(parents=True)
    (root / name / "meta.json").write_text("{")


def test_a_broken_one_stands_where_its_name_says(tmp_path: Path) -> None:
    for number in (1, 3, 5):
        write_checkpoint(tmp_path, number, name=f"epoch-000{number}")
    for name in ("epoch-0002", "epoch-0004-a", "epoch-0004-b", "epoch-0000", "epoch-0009"):
        make_broken(tmp_path, name)
    listing = scan(tmp_path)
    ascending = sorted(names_of(in_place(listing)))
    assert names_of(in_place(listing)) == ascending[::-1]
    oldest_first = listing.only(reversed(list(listing)))
    assert names_of(in_place(oldest_first)) == ascending
    assert [line[2:].partition(":")[0] for line in str(reasons(listing)).splitlines()] == [
        "epoch-0009", "epoch-0004-b", "epoch-0004-a", "epoch-0002", "epoch-0000"
    ]  # fmt: skip


def test_a_broken_one_stands_among_those_of_its_root(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", 1, name="epoch-0001")
    write_checkpoint(tmp_path / "b", 2, name="epoch-0001")
    write_checkpoint(tmp_path / "a", 3, name="epoch-0003")
    make_broken(tmp_path / "a", "epoch-0002")
    make_broken(tmp_path / "alone", "epoch-0002")
    listing = merge(scan(tmp_path / name) for name in ("a", "b", "alone"))
    assert [f"{each.path.parent.name}/{each.path.name}" for each in in_place(listing)] == [
        "a/epoch-0003", "b/epoch-0001", "a/epoch-0002", "a/epoch-0001", "alone/epoch-0002"
    ]  # fmt: skip
    nothing = scan(tmp_path / "alone")
    assert names_of(in_place(nothing)) == ["epoch-0002"]


@pytest.mark.parametrize("width", [80, 120, PIPED_WIDTH])
def test_of_several_roots_every_row_says_where_it_lies(tmp_path: Path, width: int) -> None:
    write_checkpoint(tmp_path / "one" / "weights", 1, metrics=METRICS)
    write_checkpoint(tmp_path / "two", 2, metrics=METRICS)
    make_broken(tmp_path / "two", "epoch-0003")
    listing = merge(scan(tmp_path / name) for name in ("one/weights", "two"))
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(listing_table(listing, best=None, now=NOW, width=width))
    heading, *lines = captured.get().splitlines()
    assert heading.split()[:2] == ["checkpoint", "root"]
    found = {tuple(line.removeprefix("!").split()[:2]) for line in lines}
    assert found == {
        ("epoch-0003", "two"),
        ("epoch-0002-00000002", "two"),
        ("epoch-0001-00000001", "one/weights"),
    }
    assert str(reasons(listing)).startswith(f"! {tmp_path}/two/epoch-0003: ")
    assert f"; best: {listing[0]};" in summary(listing, best=listing[0])


def test_of_one_root_no_row_says_where_it_lies(root: Path) -> None:
    listing = scan(root)
    assert "root" not in rendered(root, 120)[0].split()
    assert f"; best: {listing[0].name};" in summary(listing, best=listing[0])
