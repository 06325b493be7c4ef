"""A table without lines, a row a line: what a terminal shows of ten thousand rows in a moment.

rich's own table takes 2 ms a row, whose cells may hold whatever rich can draw. These hold a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.text import Text

_GAP: Final = "  "
_TITLE, _HEADING = "italic", "bold"


class Cell(NamedTuple):
    """A text in one line, harmless already, and how rich names its style."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A heading, the side that its cells stand at, and how narrow it may become.

    None: it stays as it is. What then is too long ends in "…", or goes on below where it `folds`.
    `metric` is the one whose values stand there, if it is one's.
    """

    heading: str
    is_right: bool = False
    least: int | None = None
    folds: bool = False
    metric: str | None = None


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
        for row in chain.from_iterable(
            self._lines(row, widths, console) for row in (headings, *self.rows)
        ):
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

    def _lines(
        self, row: Sequence[Cell], widths: Sequence[int], console: Console
    ) -> Iterator[Sequence[Cell]]:
        """A row as lines: one, or as many as the longest of its cells that fold."""
        long = {
            index: [line.plain for line in Text(cell.text).wrap(console, widths[index])]
            for index, cell in enumerate(row)
            if self.columns[index].folds and _width(cell.text) > widths[index]
        }
        if not long:
            yield row
            return
        for number in range(max(map(len, long.values()))):
            yield [
                Cell(
                    cell.text if index not in long and not number
                    else "".join(long.get(index, [])[number : number + 1]).rstrip(),
                    cell.style,
                )
                for index, cell in enumerate(row)
            ]  # fmt: skip


def needed(widths: Sequence[int]) -> int:
    """How wide columns of these widths are side by side."""
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _fitted(columns: Sequence[Column], widths: list[int], width: int) -> list[int]:
    """The widths, less what is too much: the widest of the columns that may gives way first."""
    fitted = [*widths]
    least = [column.least or natural for column, natural in zip(columns, widths, strict=True)]
    for _ in range(needed(widths) - width):
        wide = [index for index, each in enumerate(fitted) if each > least[index]]
        if not wide:
            break
        fitted[max(wide, key=fitted.__getitem__)] -= 1
    return fitted


def _padded(text: str, width: int, column: Column) -> tuple[str, str, str]:
    """The blanks before a text, as much of it as fits, and the blanks after it."""
    missing = width - _width(text)
    if missing < 0:
        return "", f"{set_cell_size(text, width - 1)}…", ""
    return (" " * missing, text, "") if column.is_right else ("", text, " " * missing)


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)
