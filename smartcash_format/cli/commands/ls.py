"""`ls`: the checkpoints of some roots."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from smartcash_format.cli import asking, completing, exits, output
from smartcash_format.store import query
from smartcash_format.view import terminal
from smartcash_format.view.table import listing_table, reasons, summary

EXAMPLES = """
\b
Examples:
  smartcash-format ls runs/train/weights
  smartcash-format ls runs -r --where 'metrics.val_map>=0.5'
  smartcash-format ls runs/train/weights --best val_map:max
  smartcash-format ls runs/train/weights --format csv > checkpoints.csv"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("ls", epilog=EXAMPLES)(ls)


def ls(
    roots: asking.Roots,
    where: asking.Wheres = None,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="FIELD",
            help="Order by a field; -FIELD descends.",
            autocompletion=completing.sort_fields,
        ),
    ] = "-saved_at",
    best: Annotated[
        str | None,
        typer.Option(
            "--best",
            metavar="METRIC:MODE",
            help="What decides the star, such as val_map:max.",
            autocompletion=completing.metrics_and_modes,
        ),
    ] = None,
    recursive: asking.Recursive = False,
    form: Annotated[output.Format, asking.FORM] = output.Format.TABLE,
) -> None:
    """List checkpoints, newest first; the best one bears a star."""
    listing = asking.filtered(asking.listing_of(roots, recursive=recursive), where)
    metric, mode = asking.parse_metric(best)
    chosen = query.best(listing, metric, mode)
    if metric is not None and (unknown := query.unknown_metric(listing, metric)):
        exits.complain(f"{unknown}; none bears the star")
    by = sort.removeprefix("-")
    for name in _metrics([by]):
        if unknown := query.unknown_metric(listing, name):
            exits.complain(f"{unknown}; by saved_at instead")
    listing = listing.only(query.sort_entries(listing, sort))
    if form in (output.Format.CSV, output.Format.PATHS):
        for broken in listing.broken:  # the other forms have them in the answer
            exits.complain(f"{broken}: {broken.reason}")
    match form:
        case output.Format.JSON:
            star = None if chosen is None else str(chosen)
            output.write_json("list", best=star, **output.listing_document(listing))
        case output.Format.CSV:
            output.write_csv([output.entry_row(entry) for entry in listing], output.ENTRY_COLUMNS)
        case output.Format.PATHS:
            output.write_paths(listing)
        case output.Format.TABLE:
            table = listing_table(
                listing,
                best=chosen,
                now=datetime.now(UTC),
                title=" ".join(map(str, roots)),
                metric=metric,
                mode=mode,
                asked=_metrics([by, *(query.parse_where(text).field for text in where or ())]),
                width=terminal.console().width,
            )
            parts: list[RenderableType] = [table, *([reasons(listing)] if listing.broken else [])]
            output.show(*parts, Text(summary(listing, best=chosen, table=table)))
    if not len(listing):
        raise typer.Exit(exits.FOUND)


def _metrics(fields: Iterable[str]) -> list[str]:
    """The names of metrics among fields."""
    found = [each for each in fields if each.startswith(query.METRICS)]
    return [each.removeprefix(query.METRICS) for each in found]
