"""A table without lines, a row a line: what a terminal shows of ten thousand rows in a moment.

rich's own table takes 2 ms a row, whose cells may hold whatever rich can draw. These hold a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.segment import Segment

_GAP: Final = "  "
_TITLE, _HEADING = "italic", "bold"


class Cell(NamedTuple):
    """A text in one line, harmless already, and how rich names its style."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A heading, the side that its cells stand at, and how few columns it may be cut to."""

    heading: str
    is_right: bool = False
    # None: nothing of it is cut.
    least: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Columns side by side; a row may end early."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""

    def widths(self) -> list[int]:
        """How many columns of a terminal each column needs."""
        found = [_width(column.heading) for column in self.columns]
        for row in self.rows:
            for index, cell in enumerate(row):
                if (width := _width(cell.text)) > found[index]:
                    found[index] = width
        return found

    def only(self, indices: Sequence[int]) -> Grid:
        """These columns alone."""
        rows = [[row[index] for index in indices if index < len(row)] for row in self.rows]
        return replace(self, columns=[self.columns[index] for index in indices], rows=rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        if self.title:
            yield Segment(self.title, console.get_style(_TITLE))
            yield Segment.line()
        widths = _fitted(self.columns, self.widths(), options.max_width)
        headings = [Cell(column.heading, _HEADING) for column in self.columns]
        for row in (headings, *self.rows):
            plain = ""
            for index, cell in enumerate(row):
                before, text, after = _padded(cell.text, widths[index], self.columns[index])
                plain += _GAP + before if index else before
                if cell.style:
                    yield Segment(plain)
                    yield Segment(text, console.get_style(cell.style))
                    plain = after
                else:
                    plain += text + after
            yield Segment(plain.rstrip() + "\n")


def needed(widths: Sequence[int]) -> int:
    """How wide columns of these widths are side by side."""
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _fitted(columns: Sequence[Column], widths: list[int], width: int) -> list[int]:
    """The widths, those of the columns that may be cut smaller by what is too much, in turn."""
    excess = needed(widths) - width
    fitted = []
    for column, natural in zip(columns, widths, strict=True):
        least = natural if column.least is None else min(natural, column.least)
        cut = max(0, min(excess, natural - least))
        excess -= cut
        fitted.append(natural - cut)
    return fitted


def _padded(text: str, width: int, column: Column) -> tuple[str, str, str]:
    """The blanks before a text, as much of it as fits, and the blanks after it."""
    missing = width - _width(text)
    if missing < 0:
        return "", f"{set_cell_size(text, width - 1)}…", ""
    return (" " * missing, text, "") if column.is_right else ("", text, " " * missing)


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)
