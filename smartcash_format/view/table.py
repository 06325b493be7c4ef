"""A listing as a table for terminals: the best marked, metrics aligned, broken ones in their place.

Every text that comes from a checkpoint passes through `harmless` and is given to rich as plain
text, so that it is shown and never obeyed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smartcash_format.store.catalog import Listing
from smartcash_format.store.entry import Broken, Entry
from smartcash_format.view import words

# More are for `show`; a narrow terminal shows fewer.
METRICS_SHOWN: Final = 4
# Names that are given by this package have 19 characters or a few more; a longer one is cut before
# a metric gives way to it.
_NAME_WIDTH: Final = 24
_ENDLESS: Final = 100_000
_PARTS: Final = (("weights", "W"), ("optimizer", "O"), ("scheduler", "S"), ("extra", "X"))
_BEST, _SECOND, _BAD = "bold green", "green", "red"


def display(listing: Listing, *, best: Entry | None, root: Path) -> None:
    """Writes the table of a root to standard output; nothing is cut where that is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    console.print(
        listing_table(
            listing, best=best, now=datetime.now(UTC), title=str(root), width=console.width
        )
    )
    if listing.broken:
        console.print(reasons(listing))
    console.print(Text(summary(listing, best=best)))


def summary(listing: Listing, *, best: Entry | None) -> str:
    """One line under the table: how many, how much, which is best."""
    total = sum(entry.size_bytes for entry in listing)
    line = f"{len(listing)} checkpoints, {words.size(total)}"
    if listing.broken:
        line += f", {len(listing.broken)} broken"
    if listing.legacy:
        line += f", {len(listing.legacy)} old .pt or .pth files (smartcash-format convert)"
    if best is not None:
        line += f"; best: {words.harmless(best.name)}"
    if len(listing):
        line += "; parts: " + ", ".join(f"{letter} {role}" for role, letter in _PARTS)
    return line


def parts(entry: Entry) -> str:
    """A letter for each part that the checkpoint has, a dot for each that it has not."""
    return "".join(letter if role in entry.roles else "·" for role, letter in _PARTS)


def listing_table(
    listing: Listing,
    *,
    best: Entry | None,
    now: datetime,
    title: str = "",
    metrics: Sequence[str] | None = None,
    width: int = _ENDLESS,
) -> Table:
    """The table of a listing, newest first; `metrics` chooses the columns, else the commonest.

    Of the metrics only the first ones that fit into `width` columns are shown: sizes, ages and
    numbers are never cut, and a name only where it is long.
    """
    names = list(metrics) if metrics is not None else common_metrics(listing)
    table = _table(listing, names, best=best, now=now, title=title)
    while names and _needed(table) > width:
        names.pop()
        table = _table(listing, names, best=best, now=now, title=title)
    return table


def _table(
    listing: Listing, names: Sequence[str], *, best: Entry | None, now: datetime, title: str
) -> Table:
    # A path is never broken to the width of the table below it.
    where = Text(words.harmless(title), no_wrap=True, overflow="ignore") if title else None
    table = Table(title=where, title_justify="left", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    # The one column that may wrap: it alone gives way.
    table.add_column("checkpoint", overflow="ellipsis", min_width=12)
    step = _has_step(listing)
    for heading in ("epoch", "step") if step else ("epoch",):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in names:
        table.add_column(Text(words.harmless(name, 24)), justify="right", no_wrap=True)
    for heading in ("size", "parts", "age"):
        table.add_column(heading, justify="right", no_wrap=True)
    ranks = {name: _extremes(listing, name) for name in names}
    for entry in listing:
        table.add_row(*_row(entry, names, ranks, best=best, now=now, step=step))
    for broken in listing.broken:
        table.add_row(Text("!", style=_BAD), _name(broken))
    return table


def _needed(table: Table) -> int:
    """The columns of a terminal in which nothing is cut but a long name."""
    console = Console(width=_ENDLESS)
    name = max(cell_len(str(cell)) for cell in [table.columns[1].header, *table.columns[1].cells])
    return console.measure(table).maximum - max(0, name - _NAME_WIDTH)


def reasons(listing: Listing) -> Text:
    """Why each broken one cannot be read, a line each; empty when none is broken."""
    lines = [
        f"! {words.harmless(broken.path.name)}: {words.harmless(broken.reason, 300)}"
        for broken in listing.broken
    ]
    return Text("\n".join(lines), style=_BAD)


def common_metrics(listing: Sequence[Entry], *, first: str | None = None) -> list[str]:
    """The metrics that most entries have: `first` leads, the others as the newest names them."""
    counts = Counter(name for entry in listing for name in entry.metrics)
    seen = list(dict.fromkeys(name for entry in listing for name in entry.metrics))
    kept = sorted(seen, key=lambda name: (name != first, -counts[name]))[:METRICS_SHOWN]
    return sorted(kept, key=lambda name: (name != first, seen.index(name)))


def _has_step(listing: Sequence[Entry]) -> bool:
    return any(entry.step is not None for entry in listing)


def _name(item: Entry | Broken) -> Text:
    name = item.name if isinstance(item, Entry) else item.path.name
    style = "" if isinstance(item, Entry) else _BAD
    return Text(words.harmless(name), style=style)


def _row(
    entry: Entry,
    names: Sequence[str],
    ranks: Mapping[str, tuple[float, float]],
    *,
    best: Entry | None,
    now: datetime,
    step: bool,
) -> list[Text]:
    star = best is not None and entry == best
    cells = [Text("★" if star else "", style=_BEST), _name(entry), Text(str(entry.epoch))]
    if step:
        cells.append(Text("" if entry.step is None else str(entry.step)))
    cells += [_metric(entry.metrics.get(name), ranks[name]) for name in names]
    cells += [
        Text(words.size(entry.size_bytes)),
        Text(parts(entry)),
        Text(words.age(entry.saved_at, now)),
    ]
    if star:
        for cell in cells:
            cell.stylize("bold")
    return cells


def _metric(value: float | None, extremes: tuple[float, float]) -> Text:
    if value is None:
        return Text("")
    if not math.isfinite(value):
        return Text(words.number(value), style=_BAD)
    low, high = extremes
    style = _SECOND if low < high and value in (low, high) else ""
    return Text(words.number(value), style=style)


def _extremes(listing: Sequence[Entry], name: str) -> tuple[float, float]:
    found = [entry.metrics[name] for entry in listing if name in entry.metrics]
    finite = [value for value in found if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 0.0)
