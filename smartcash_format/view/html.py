"""Pieces of HTML for notebooks: lines and tables that sort, of a bounded size, all text escaped."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from smartcash_format.view import words

# A notebook with some lists stays below the size that tools open: a piece below 100 kB.
BYTES: Final = 92_000
NAME_CHARACTERS: Final = 60
TEXT_CHARACTERS: Final = 300
# A bar beside the text, whose colour stays the notebook's: no other is read on white, on Jupyter's
# black and on Colab's grey alike.
BEST: Final = "font-weight:bold;border-left:3px solid #009e73"
BAD: Final = "font-weight:bold;border-left:3px solid #d55e00;padding-left:.5em"
_SORT: Final = """(()=>{const t=document.getElementById("ID"),b=t.tBodies[0];
t.querySelectorAll("th").forEach((h,i)=>{h.style.cursor="pointer";h.tabIndex=0;
const sort=()=>{const d=h.ariaSort==="descending"?1:-1;
t.querySelectorAll("th").forEach(o=>o.removeAttribute("aria-sort"));
h.ariaSort=d<0?"descending":"ascending";
const v=r=>r.cells[i].dataset.v??r.cells[i].textContent,n=s=>s===""?NaN:Number(s);
[...b.rows].sort((p,q)=>{const x=v(p),y=v(q),a=n(x),c=n(y);
if(isNaN(a)||isNaN(c))return isNaN(a)&&isNaN(c)?d*x.localeCompare(y):isNaN(a)?1:-1;
return d*(a-c)}).forEach(r=>b.append(r))};
h.onclick=sort;h.onkeydown=e=>{if(e.key==="Enter")sort()}})})()"""


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, what it sorts by where that is another, and a style of ours."""

    text: str
    value: float | None = None
    style: str = ""

    def html(self) -> str:
        """The cell; foreign text has to be made harmless before."""
        value = "" if self.value is None else f' data-v="{self.value:.10g}"'
        style = f' style="{self.style}"' if self.style else ""
        return f"<td{value}{style}>{escape(self.text)}</td>"


Row = Sequence[Cell]


class Piece:
    """One piece of HTML that grows line by line, and never beyond its bound."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._room = BYTES

    def __str__(self) -> str:
        return "".join(self._parts)

    def line(self, text: str, *, style: str = "") -> None:
        """A paragraph."""
        start = f'<p style="{style}">' if style else "<p>"
        self._add(f"{start}{escape(text)}</p>")

    def table(
        self,
        headings: Sequence[str],
        rows: Sequence[Row],
        *,
        first: Callable[[Row], bool] = lambda row: False,
    ) -> int:
        """A table of as many rows as there is room for, those of `first` before all others.

        They keep their order. How many rows are not shown.
        """
        name = f"sc-{uuid.uuid4().hex}"
        head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
        script = _SORT.replace("ID", name, 1)
        before = f'<table id="{name}"><thead><tr>{head}</tr></thead><tbody>'
        after = f"</tbody></table><script>{script}</script>"
        made = [f"<tr>{''.join(cell.html() for cell in row)}</tr>" for row in rows]
        room = self._room - _size(before) - _size(after)
        kept = set()
        for index in sorted(range(len(rows)), key=lambda index: not first(rows[index])):
            room -= _size(made[index])
            if room < 0:
                break
            kept.add(index)
        self._add(before + "".join(made[index] for index in sorted(kept)) + after)
        return len(rows) - len(kept)

    def named(self, title: str, headings: Sequence[str], rows: Sequence[Row]) -> None:
        """A table under a title, and what there was no room for; nothing where there is no row."""
        if not rows:
            return
        self.line(title, style="font-weight:bold")
        if left := self.table(headings, rows):
            self.line(f"{left} more are not shown")

    def _add(self, html: str) -> None:
        self._parts.append(html)
        self._room -= _size(html)


def short(text: str) -> str:
    """A name, made harmless and cut."""
    return _cut(text, NAME_CHARACTERS)


def long(text: object) -> str:
    """A sentence or a value, made harmless and cut."""
    return _cut(str(text), TEXT_CHARACTERS)


def texts(*cells: object, style: str = "") -> list[Cell]:
    """Cells of these texts."""
    return [Cell(long(each), style=style) for each in cells]


def _cut(text: str, most: int) -> str:
    # Cut once more: what is made harmless may have become six times as long.
    found = words.harmless(text, most)
    return found if len(found) <= most else found[: most - 1] + "…"


def _size(html: str) -> int:
    return len(html.encode())
