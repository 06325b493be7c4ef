"""A table without lines: what is cut, what is padded, and that wide characters count as two."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.console import Console

from smartcash_format.view.grid import Cell, Column, Grid, needed

GRID = Grid(
    columns=[
        Column(heading="name", least=5),
        Column(heading="size", is_right=True),
        Column(heading="why", least=4),
    ],
    rows=[
        [Cell("short"), Cell("1 kB"), Cell("it was asked for")],
        [Cell("測試測試測試"), Cell("12 kB")],
        [Cell("a"), Cell("", "red"), Cell("b", "red")],
    ],
)


def printed(grid: Grid, width: int) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(grid)
    return captured.get().splitlines()


def test_columns_stand_below_each_other_and_nothing_trails() -> None:
    assert printed(GRID, 80) == [
        "name           size  why",
        "short          1 kB  it was asked for",
        "測試測試測試  12 kB",
        "a                    b",
    ]
    assert needed(GRID.widths()) == 37


@pytest.mark.parametrize("width", [36, 34, 31, 30, 24, 20])
def test_the_widest_gives_way_first_and_what_may_not_is_whole(width: int) -> None:
    lines = printed(GRID, width)
    assert max(map(cell_len, lines)) <= width
    assert "1 kB  it" in lines[1]
    assert "…" in lines[1]
    assert "12 kB" in lines[2]
    # The names are as wide as the reasons then.
    assert ("測試測試測試" in lines[2]) is (width > 31)


def test_what_folds_goes_on_below_its_beginning_and_nothing_of_it_is_lost() -> None:
    columns = [
        Column(heading="name", least=4, folds=True),
        Column(heading="why", least=9, folds=True),
        Column(heading="n"),
    ]
    rows = [[Cell("abcdefgh"), Cell("it was asked for"), Cell("1")], [Cell("b"), Cell("c")]]
    assert printed(Grid(columns=columns, rows=rows), 18) == [
        "name  why        n",
        "abcd  it was     1",
        "efgh  asked for",
        "b     c",
    ]
    assert printed(Grid(columns=columns, rows=rows), 40)[1] == "abcdefgh  it was asked for  1"


def test_only_some_columns_stay_with_rows_that_end_early() -> None:
    grid = GRID.only([0, 2])
    assert printed(grid, 80)[2] == "測試測試測試"
    assert [column.heading for column in grid.columns] == ["name", "why"]


def test_a_title_stands_above_and_styles_are_for_a_terminal_that_has_them() -> None:
    console = Console(width=80, color_system="standard", force_terminal=True)
    with console.capture() as captured:
        console.print(Grid(columns=GRID.columns, rows=GRID.rows, title="above"))
    lines = captured.get().splitlines()
    assert lines[0] == "\x1b[3mabove\x1b[0m"
    assert "\x1b[1mname\x1b[0m" in lines[1]
    assert "\x1b[31mb\x1b[0m" in lines[4]
