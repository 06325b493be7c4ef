"""What notebooks show: a list, a checkpoint, a validation, a comparison, a history, as HTML.

One piece of HTML each, without anything to fetch: colours are those of the notebook, light or dark.
All foreign text is escaped. A heading sorts its column.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.tree import Tree

from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.spec.diff import Diff
from smartcash_format.spec.displaying import draw_with
from smartcash_format.spec.problems import Report
from smartcash_format.store.catalog import Listing
from smartcash_format.store.entry import Entry
from smartcash_format.store.history import History
from smartcash_format.store.query import Mode
from smartcash_format.view import table, words
from smartcash_format.view.checkpoint import checkpoint_tree
from smartcash_format.view.comparison import comparison

# A notebook with the lists of some hundred checkpoints stays below the size that tools open.
ROWS: Final = 200
_NAME_CHARACTERS: Final = 60
_TEXT_CHARACTERS: Final = 300
_TREE_COLUMNS: Final = 110
_BEST: Final = "font-weight:bold;border-left:3px solid #009e73"
_BAD: Final = "color:#d55e00"
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
class _Cell:
    """A text, what it sorts by where that is another, and a style of ours."""

    text: str
    value: float | None = None
    style: str = ""

    def html(self) -> str:
        value = "" if self.value is None else f' data-v="{self.value:.10g}"'
        style = f' style="{self.style}"' if self.style else ""
        return f"<td{value}{style}>{escape(self.text)}</td>"


def display(
    listing: Listing,
    *,
    best: Entry | None,
    root: Path,
    metric: str | None = None,
    mode: Mode | None = None,
) -> None:
    """Shows a root where the program runs: as HTML in a notebook, else as text."""
    if not Console().is_jupyter:
        table.display(listing, best=best, root=root, metric=metric, mode=mode)
        return
    ipython = import_module("IPython.display")  # there, since it is what runs
    ipython.display(ipython.HTML(_line(words.harmless(str(root))) + listing_html(listing, best)))


def listing_html(listing: Listing, best: Entry | None = None) -> str:
    """The table of a listing, newest first, `best` marked, else the newest that is flagged."""
    metrics = table.common_metrics(listing)
    now = datetime.now(UTC)
    best = best or next((entry for entry in listing if entry.is_best), None)
    rows = [
        [
            _Cell(_short(entry.name), style=_BEST if entry == best else ""),
            _Cell(str(entry.epoch)),
            *(_metric(entry.metrics.get(name)) for name in metrics),
            _Cell(words.size(entry.size_bytes), entry.size_bytes),
            _Cell(table.parts(entry)),
            _Cell(words.age(entry.saved_at, now), -entry.saved_at.timestamp()),
        ]
        for entry in listing[:ROWS]
    ]
    rows += [
        [
            _Cell("! " + _short(broken.path.name), style=_BAD),
            _Cell(words.harmless(broken.reason, _TEXT_CHARACTERS), style=_BAD),
            *[_Cell("")] * (len(metrics) + 3),
        ]
        for broken in listing.broken[: max(0, ROWS - len(rows))]
    ]
    headings = ["checkpoint", "epoch", *(_short(name) for name in metrics), "size", "parts", "age"]
    left = len(listing) + len(listing.broken) - len(rows)
    more = f"; {left} more are not shown" if left else ""
    return _table(headings, rows) + _line(table.summary(listing, best=best) + more)


def entry_html(entry: Entry) -> str:
    """What one checkpoint is, measured and holds."""
    try:
        meta = entry.meta
    except InvalidCheckpointError as error:
        return _line(f"{_short(entry.name)}: {words.harmless(str(error), _TEXT_CHARACTERS)}")
    return _tree(checkpoint_tree(entry.path, meta, now=datetime.now(UTC)))


def report_html(report: Report) -> str:
    """The verdict of a validation, and every problem."""
    mark = "✓" if report.valid else "✗"
    head = f"{mark} {_short(report.path.name)}: {words.harmless(report.message, _TEXT_CHARACTERS)}"
    rows = [
        [
            _Cell(problem.code),
            *(
                _Cell(words.harmless(text, _TEXT_CHARACTERS))
                for text in (problem.where, problem.message, problem.fix)
            ),
        ]
        for problem in report.problems[:ROWS]
    ]
    notices = "".join(
        _line(words.harmless(notice, _TEXT_CHARACTERS)) for notice in report.notices[:ROWS]
    )
    found = _table(["code", "where", "what", "what to do"], rows) if rows else ""
    return _line(head, style="" if report.valid else _BAD) + found + notices


def diff_html(found: Diff) -> str:
    """What differs, the verdict on the weights first."""
    return _tree(comparison(found, before="before", after="after"))


def history_html(history: History) -> str:
    """The events of a root, the newest first."""
    rows = [
        [
            _Cell(f"{line.at:%Y-%m-%d %H:%M:%S}"),
            _Cell(line.event),
            _Cell(_short(line.checkpoint or ", ".join(line.checkpoints[:3]))),
            _Cell("" if line.epoch is None else str(line.epoch)),
            _Cell(line.run_id[:8]),
            _Cell(
                ", ".join(
                    f"{_short(name)} {words.number(value)}"
                    for name, value in list(line.metrics.items())[:4]
                )
            ),
        ]
        for line in history.lines[: -ROWS - 1 : -1]
    ]
    left = len(history.lines) - len(rows)
    return _table(["when, UTC", "what", "checkpoint", "epoch", "run", "metrics"], rows) + _line(
        f"{len(history.lines)} events" + (f"; the {len(rows)} newest are shown" if left else "")
    )


def _metric(value: float | None) -> _Cell:
    if value is None:
        return _Cell("")
    if not math.isfinite(value):
        return _Cell(words.number(value), style=_BAD)
    return _Cell(words.number(value), float(value))


def _short(text: str) -> str:
    return words.harmless(text, _NAME_CHARACTERS)


def _table(headings: Sequence[str], rows: Iterable[Sequence[_Cell]]) -> str:
    name = f"sc-{uuid.uuid4().hex}"
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join(f"<tr>{''.join(cell.html() for cell in row)}</tr>" for row in rows)
    script = _SORT.replace("ID", name, 1)
    return (
        f'<table id="{name}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        f"<script>{script}</script>"
    )


def _line(text: str, *, style: str = "") -> str:
    return f'<p style="{style}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


def _tree(tree: Tree) -> str:
    console = Console(
        width=_TREE_COLUMNS, color_system=None, force_terminal=False, force_jupyter=False
    )
    with console.capture() as text:
        console.print(tree)
    return f"<pre>{escape(text.get())}</pre>"


draw_with(Listing, listing_html)
draw_with(Entry, entry_html)
draw_with(Report, report_html)
draw_with(Diff, diff_html)
draw_with(History, history_html)
