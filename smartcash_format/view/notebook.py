"""What notebooks show: a list, a checkpoint, a validation, a comparison, a history, as HTML.

One piece of HTML each, without anything to fetch: colours are those of the notebook, light or dark.
All foreign text is escaped. A heading sorts its column.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Final

from rich.console import Console

from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.spec.diff import Diff, FieldChange, WeightsDiff
from smartcash_format.spec.displaying import draw_with
from smartcash_format.spec.problems import Report
from smartcash_format.store import query
from smartcash_format.store.catalog import Listing
from smartcash_format.store.entry import Broken, Entry
from smartcash_format.store.history import History
from smartcash_format.store.query import Mode
from smartcash_format.view import table, words
from smartcash_format.view.comparison import VERDICTS
from smartcash_format.view.html import BAD, BEST, Cell, Piece, Row, long, short, texts
from smartcash_format.view.report_facts import config_lines

ROWS: Final = 200


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
    ipython.display(ipython.HTML(listing_html(listing, best, title=str(root), metric=metric)))


def listing_html(
    listing: Listing, best: Entry | None, *, title: str = "", metric: str | None = None
) -> str:
    """The table of a listing in its order, `best` marked, the broken ones in their place.

    `metric` is the one that decides, and the first column of them.
    """
    metrics = table.common_metrics(listing, [metric] if metric else [])
    step = any(entry.step is not None for entry in listing)
    roots = table.roots_of(listing)
    now = datetime.now(UTC)
    piece = Piece()
    if title:
        piece.line(long(title))
    rows, why = [], []
    for item in table.in_place(listing):
        if isinstance(item, Broken):
            row = [
                Cell("! " + short(item.path.name), style=BAD),
                *_root(str(item.path.parent), roots),
            ]
            rows.append([*row, *[Cell("")] * (len(metrics) + step + 4)])
            why.append([Cell(short(item.path.name)), *texts(item.reason)])
            continue
        rows.append(
            [
                Cell(short(item.name), style=BEST if item == best else ""),
                *_root(item.parent, roots),
                Cell(str(item.epoch)),
                *([Cell("" if item.step is None else str(item.step))] if step else []),
                *(_metric(item.metric(name)) for name in metrics),
                Cell(words.size(item.size_bytes), item.size_bytes),
                Cell(table.parts(item)),
                Cell(words.age(item.saved_at, now), -item.saved_at.timestamp()),
            ]
        )
    counters = ["epoch", "step"] if step else ["epoch"]
    root = ["root"] if roots else []
    headings = ["checkpoint", *root, *counters, *map(short, metrics), "size", "parts", "age"]
    chosen = _first_rows(rows)
    left = len(rows) - len(chosen) + piece.table(headings, chosen, first=_must_be_seen)
    more = f"; {left} more are not shown" if left else ""
    piece.line(table.summary(listing, best=best) + more)
    piece.named("cannot be read", ["checkpoint", "why"], why)
    return str(piece)


def _root(parent: str, roots: Mapping[str, str]) -> list[Cell]:
    return texts(roots[parent]) if roots else []


def _must_be_seen(row: Row) -> bool:
    """What cannot be read, and what is best, give way to nothing."""
    return row[0].style != ""


def _first_rows(rows: Sequence[Row]) -> list[Row]:
    """ROWS of these, in their order, those that must be seen among them."""
    kept = sorted(range(len(rows)), key=lambda index: not _must_be_seen(rows[index]))[:ROWS]
    return [rows[index] for index in sorted(kept)]


def entry_html(entry: Entry) -> str:
    """What one checkpoint is, measured and holds."""
    piece = Piece()
    try:
        meta = entry.meta
    except InvalidCheckpointError as error:
        piece.line(f"{short(entry.name)}: {long(error)}", style=BAD)
        return str(piece)
    age = words.age(meta.saved_at, datetime.now(UTC))
    about = {
        "saved": f"{meta.saved_at:%Y-%m-%d %H:%M:%S} UTC ({age} ago)",
        "epoch": str(meta.epoch) + (", flagged best" if meta.is_best else ""),
        "step": "" if meta.step is None else str(meta.step),
        "backbone": meta.backbone or "",
        "dataset": meta.dataset or "",
        "tags": " ".join(meta.tags),
        "run": meta.run_id,
        **{
            f"weights {name}": f"{weights.class_name or 'a state dict'}, "
            f"{weights.parameters:,} parameters" + ("" if weights.finite else ", not finite")
            for name, weights in meta.weights.items()
        },
        "optimizer": "" if meta.optimizer is None else meta.optimizer.class_name or "yes",
        "scheduler": "" if meta.scheduler is None else meta.scheduler.class_name or "yes",
        "extra": ", ".join([*meta.extra, *(["random state"] if meta.rng else [])]),
    }
    piece.line(long(entry.path), style="font-weight:bold")
    piece.table(["", "value"], [texts(name, value) for name, value in about.items() if value])
    files = sorted(meta.files.items(), key=lambda item: -item[1].size_bytes)
    piece.named(
        f"files, {words.size(meta.size_bytes)}",
        ["file", "size"],
        [[*texts(name), Cell(words.size(r.size_bytes), r.size_bytes)] for name, r in files],
    )
    metrics = sorted(meta.metrics.items())
    piece.named(
        "metrics", ["metric", "value"], [[*texts(n), _metric(v)] for n, v in metrics[:ROWS]]
    )
    config = [] if meta.config is None else config_lines(meta.config)
    piece.named("config", ["setting", "value"], [texts(*line) for line in config[:ROWS]])
    left = max(0, len(metrics) - ROWS) + max(0, len(config) - ROWS)
    if left:
        piece.line(f"{left} more metrics and settings are not shown")
    return str(piece)


def report_html(report: Report) -> str:
    """The verdict of a validation, and every problem."""
    piece = Piece()
    mark = "✓" if report.valid else "✗"
    head = f"{mark} {short(report.path.name)}: {long(report.message)}"
    piece.line(head, style="" if report.valid else BAD)
    rows = [texts(each.code, each.where, each.message, each.fix) for each in report.problems]
    if rows and (left := piece.table(["code", "where", "what", "what to do"], rows)):
        piece.line(f"{left} more are not shown")
    piece.named("notices", ["what"], [texts(notice) for notice in report.notices[:ROWS]])
    return str(piece)


def diff_html(found: Diff) -> str:
    """What differs, the verdict on the weights first."""
    piece = Piece()
    piece.line(VERDICTS[found.same_weights][0], style="font-weight:bold")
    piece.named(
        "metrics",
        ["metric", "before", "after", "change"],
        [
            [*texts(each.name), _metric(each.before), _metric(each.after), _metric(each.delta)]
            for each in found.metrics
            if each.differs
        ],
    )
    for title, changes in (("metadata", found.fields), ("config", found.config)):
        rows = [texts(each.path, *_sides(each)) for each in changes]
        piece.named(title, ["what", "before", "after"], rows)
    for weights in found.weights:
        piece.named(
            f"weights {short(weights.name)}: {weights.unchanged} tensors unchanged",
            ["tensor", "how"],
            [texts(name, how) for name, how in _tensor_changes(weights)],
        )
    return str(piece)


def _sides(change: FieldChange) -> tuple[object, object]:
    """The value before and after, "-" for the side that has none."""
    before = "-" if change.kind == "added" else change.before
    return before, "-" if change.kind == "removed" else change.after


def _tensor_changes(weights: WeightsDiff) -> Iterator[tuple[str, str]]:
    yield from ((name, "added") for name in weights.added)
    yield from ((name, "removed") for name in weights.removed)
    yield from ((each.name, f"is {each.new_name} now") for each in weights.renamed)
    for each in weights.reshaped:
        yield each.name, f"reshaped, {each.before.shape} -> {each.after.shape}"
    for each in weights.retyped:
        yield each.name, f"re-typed, {each.before.dtype} -> {each.after.dtype}"
    yield from ((each.name, "changed") for each in weights.changed)
    yield from ((name, "unknown") for name in weights.unknown)


def history_html(history: History) -> str:
    """The events of a root, the newest first."""
    piece = Piece()
    rows = [
        [
            Cell(f"{line.at:%Y-%m-%d %H:%M:%S}"),
            Cell(line.event),
            Cell(short(line.checkpoint or ", ".join(line.checkpoints[:3]))),
            Cell("" if line.epoch is None else str(line.epoch)),
            Cell(short(line.run_id[:8])),
            Cell(
                ", ".join(
                    f"{short(name)} {words.number(value)}"
                    for name, value in list(line.metrics.items())[:4]
                )
            ),
        ]
        for line in history.lines[: -ROWS - 1 : -1]
    ]
    left = piece.table(["when, UTC", "what", "checkpoint", "epoch", "run", "metrics"], rows)
    shown = len(rows) - left
    more = f"; the {shown} newest are shown" if shown < len(history.lines) else ""
    piece.line(f"{len(history.lines)} events{more}")
    return str(piece)


def _metric(value: float | None) -> Cell:
    if value is None:
        return Cell("")
    if not math.isfinite(value):
        return Cell(words.number(value), style=BAD)
    return Cell(words.number(value), float(value))


def _listing_alone(listing: Listing) -> str:
    """A listing that nobody chose from: the newest that is flagged is marked."""
    return listing_html(listing, query.best(listing))


draw_with(Listing, _listing_alone)
draw_with(Entry, entry_html)
draw_with(Report, report_html)
draw_with(Diff, diff_html)
draw_with(History, history_html)
