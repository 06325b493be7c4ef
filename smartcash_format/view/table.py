"""A listing as a table for terminals: the best marked, metrics aligned, broken ones in their place.

Every text that comes from a checkpoint passes through `harmless` and is given to rich as plain
text, so that it is shown and never obeyed.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.text import Text

from smartcash_format.store.catalog import Listing
from smartcash_format.store.entry import Broken, Entry
from smartcash_format.store.query import Mode
from smartcash_format.view import terminal, words
from smartcash_format.view.answer import by_likelihood, likely_mode
from smartcash_format.view.grid import Cell, Column, Grid
from smartcash_format.view.grid import needed as grid_width
from smartcash_format.view.terminal import PIPED_WIDTH

# More are for `show`; a narrow terminal shows fewer.
METRICS_SHOWN: Final = 4
# Names that are given by this package have 19 characters or a few more; a longer one is cut before
# a metric gives way to it.
_NAME_WIDTH: Final = 24
# Where the name stands, and how many columns stand after the metrics.
_NAME: Final = 1
_AFTER: Final = 3
_PARTS: Final = (("weights", "W"), ("optimizer", "O"), ("scheduler", "S"), ("extra", "X"))
_FIRST, _NEXT, _BAD = "bold green", "green", "red"


def display(
    listing: Listing,
    *,
    best: Entry | None,
    root: Path,
    metric: str | None = None,
    mode: Mode | None = None,
) -> None:
    """Writes the table of a root to standard output; nothing is cut where that is no terminal.

    `metric` is the one that decides, with the end of it that is good.
    """
    console = terminal.console()
    table = listing_table(
        listing,
        best=best,
        now=datetime.now(UTC),
        title=str(root),
        metric=metric,
        mode=mode,
        width=console.width,
    )
    console.print(table, crop=False)
    if listing.broken:
        console.print(reasons(listing))
    console.print(Text(summary(listing, best=best, table=table)))


def summary(listing: Listing, *, best: Entry | None, table: Grid | None = None) -> str:
    """One line under the table: how many, how much, which is best, how many metrics it leaves out.

    `table` is the one that it stands under.
    """
    total = sum(entry.size_bytes for entry in listing)
    line = f"{words.several(len(listing), 'checkpoint')}, {words.size(total)}"
    if listing.broken:
        line += f", {len(listing.broken)} broken"
    if listing.legacy:
        old = words.several(len(listing.legacy), "old .pt or .pth file")
        line += f", {old} (smartcash-format convert)"
    if best is not None:
        line += f"; best: {words.harmless(_told(best, roots_of(listing)), None)}"
    if table is not None and (left := _left_out(listing, table)):
        line += f"; {words.several(left, 'more metric')}: smartcash-format show"
    if len(listing):
        line += "; parts: " + ", ".join(f"{letter} {role}" for role, letter in _PARTS)
    return line


def _left_out(listing: Listing, table: Grid) -> int:
    """How many metrics have no column."""
    shown = {column.metric for column in table.columns}
    return len({name for entry in listing for name in entry.metrics} - shown)


def roots_of(listing: Listing) -> dict[str, str]:
    """How a row says in which root it lies; empty where all lie in one, which the title names."""
    parents = {entry.parent for entry in listing}
    parents.update(str(broken.path.parent) for broken in listing.broken)
    return words.short_roots(parents) if len(parents) > 1 else {}


def _told(item: Entry | Broken, roots: Mapping[str, str]) -> str:
    """Its name, or of several roots its path."""
    return str(item) if roots else item.path.name


def parts(entry: Entry) -> str:
    """A letter for each part that the checkpoint has, a dot for each that it has not."""
    return "".join(letter if role in entry.roles else "·" for role, letter in _PARTS)


def in_place(listing: Listing) -> list[Entry | Broken]:
    """The entries with the broken ones among them: each beside the next one by name of its root."""
    if not listing.broken:
        return list(listing)
    descends = len(listing) < 2 or listing[0].order > listing[-1].order
    names: dict[Path, list[tuple[str, int]]] = defaultdict(list)
    for index, entry in enumerate(listing):
        names[entry.path.parent].append((entry.name, index))
    for found in names.values():
        found.sort()
    before: dict[int, list[Broken]] = defaultdict(list)
    for broken in sorted(listing.broken, key=lambda broken: broken.path.name, reverse=descends):
        index = _index(names[broken.path.parent], broken.path.name, descends, len(listing))
        before[index].append(broken)
    items: list[Entry | Broken] = []
    for index, entry in enumerate(listing):
        items += [*before[index], entry]
    return [*items, *before[len(listing)]]


def _index(names: Sequence[tuple[str, int]], name: str, descends: bool, end: int) -> int:
    """Before which entry one of this name goes."""
    place = bisect(names, (name,))
    if not names:
        return end
    if place:
        return names[place - 1][1] + (not descends)
    return names[0][1] + descends


def listing_table(
    listing: Listing,
    *,
    best: Entry | None,
    now: datetime,
    title: str = "",
    metric: str | None = None,
    mode: Mode | None = None,
    asked: Sequence[str] = (),
    width: int = PIPED_WIDTH,
) -> Grid:
    """The table of a listing in its order; the best three numbers of each metric are coloured.

    `metric` is the one that decides, and the first column of them; `mode` is the end of it that is
    good, which its name says where this does not; where neither does, nothing is coloured. Those
    that were `asked` for, to sort or to filter by, come next. Of the others only those that fit
    into `width` columns are shown: sizes, ages and numbers are never cut, and a name only where it
    is long.
    """
    is_endless = width >= PIPED_WIDTH
    leading = [name for name in (metric, *asked) if name is not None]
    names = common_metrics(listing, leading, most=None if is_endless else METRICS_SHOWN)
    columns = [
        _Column(
            name=name,
            heading=words.harmless(name, None) if is_endless else _heading(name, names),
            styles=_ranks(listing, name, mode if name == metric else None),
        )
        for name in names
    ]
    grid = _grid(listing, columns, best=best, now=now, title=title)
    if is_endless:
        return grid
    widths = grid.widths()
    for index in range(_NAME, _NAME + 1 + bool(roots_of(listing))):
        widths[index] = min(widths[index], _NAME_WIDTH)
    first = len(widths) - _AFTER - len(columns)
    shown = [*range(len(widths))]
    stays = any(name in names for name in leading)
    while len(shown) > first + _AFTER + stays and _needed(widths, shown) > width:
        del shown[-_AFTER - 1]
    return grid.only(shown)


def _needed(widths: Sequence[int], shown: Sequence[int]) -> int:
    return grid_width([widths[index] for index in shown])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A metric, and the styles of its best numbers."""

    name: str
    heading: str
    styles: Mapping[float, str]


def _grid(
    listing: Listing, columns: Sequence[_Column], *, best: Entry | None, now: datetime, title: str
) -> Grid:
    step = _has_step(listing)
    roots = roots_of(listing)
    return Grid(
        title=words.harmless(title, None),
        columns=[
            Column(heading=""),
            # What gives way: a name is cut, a root folds.
            Column(heading="checkpoint", least=12),
            *([Column(heading="root", least=8, folds=True)] if roots else []),
            *(_numbers("epoch", "step") if step else _numbers("epoch")),
            *(Column(heading=each.heading, is_right=True, metric=each.name) for each in columns),
            *_numbers("size", "parts", "age"),
        ],
        rows=[
            _row(item, columns, roots, best=best, now=now, step=step)
            if isinstance(item, Entry)
            else [
                Cell("!", _BAD),
                Cell(words.harmless(item.path.name, None), _BAD),
                *_root(str(item.path.parent), roots),
            ]
            for item in in_place(listing)
        ],
    )


def _numbers(*headings: str) -> list[Column]:
    return [Column(heading=heading, is_right=True) for heading in headings]


def reasons(listing: Listing) -> Text:
    """Why each broken one cannot be read, a line each; empty when none is broken."""
    roots = roots_of(listing)
    lines = [
        f"! {words.harmless(_told(item, roots), None)}: {words.harmless(item.reason, None)}"
        for item in in_place(listing)
        if isinstance(item, Broken)
    ]
    return Text("\n".join(lines), style=_BAD)


def common_metrics(
    listing: Sequence[Entry], leading: Sequence[str] = (), *, most: int | None = METRICS_SHOWN
) -> list[str]:
    """The metrics that most entries have: the `leading` ones, then what people choose by."""
    counts = Counter(name for entry in listing for name in entry.metrics)
    first = [name for name in dict.fromkeys(leading) if name in counts][:most]
    others = [name for name in by_likelihood(counts) if name not in first]
    room = None if most is None else most - len(first)
    kept = set(sorted(others, key=lambda name: -counts[name])[:room])
    return [*first, *(name for name in others if name in kept)]


def _heading(name: str, names: Sequence[str]) -> str:
    """A metric's name where there is little room: without the groups that it alone ends so in."""
    last = name.rpartition("/")[2]
    is_alone = sum(other.rpartition("/")[2] == last for other in names) == 1
    short = f"…/{last}" if is_alone and last else name
    return words.harmless(min(name, short, key=len), _NAME_WIDTH)


def _has_step(listing: Sequence[Entry]) -> bool:
    return any(entry.step is not None for entry in listing)


def _root(parent: str, roots: Mapping[str, str]) -> list[Cell]:
    return [Cell(words.harmless(roots[parent], None))] if roots else []


def _row(
    entry: Entry,
    columns: Sequence[_Column],
    roots: Mapping[str, str],
    *,
    best: Entry | None,
    now: datetime,
    step: bool,
) -> list[Cell]:
    star = best is not None and entry == best
    cells = [
        Cell("★" if star else "", _FIRST if star else ""),
        Cell(words.harmless(entry.name, None)),
        *_root(entry.parent, roots),
        Cell(str(entry.epoch)),
    ]
    if step:
        cells.append(Cell("" if entry.step is None else str(entry.step)))
    cells += [_metric(entry.metric(column.name), column.styles) for column in columns]
    cells += [
        Cell(words.size(entry.size_bytes)),
        Cell(parts(entry)),
        Cell(words.age(entry.saved_at, now)),
    ]
    return [Cell(cell.text, f"bold {cell.style}") for cell in cells] if star else cells


def _metric(value: float | None, styles: Mapping[float, str]) -> Cell:
    if value is None:
        return Cell("")
    if not math.isfinite(value):
        return Cell(words.number(value), _BAD)
    return Cell(words.number(value), styles.get(value, ""))


def _ranks(listing: Sequence[Entry], name: str, mode: Mode | None) -> dict[float, str]:
    """The styles of the best three numbers; the worst has none, so that one alone is no winner."""
    values = {
        value for entry in listing if math.isfinite(value := entry.metrics.get(name, math.nan))
    }
    good = mode or likely_mode(name)
    if good is None:
        return {}
    ordered = sorted(values, reverse=good == "max")
    return dict(zip(ordered[:-1], (_FIRST, _NEXT, _NEXT), strict=False))
