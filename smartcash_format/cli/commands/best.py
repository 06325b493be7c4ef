"""`best`: the one checkpoint to use."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Annotated

import typer

from smartcash_format.cli import asking, completing, exits, output
from smartcash_format.store import query
from smartcash_format.store.catalog import Listing
from smartcash_format.view import terminal, words
from smartcash_format.view.table import listing_table

EXAMPLES = """
\b
Examples:
  smartcash-format best runs/train/weights --metric val_map:max
  cp -r "$(smartcash-format best runs/train/weights)" release/"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("best", epilog=EXAMPLES)(best)


def best(
    roots: asking.Roots,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="METRIC:MODE",
            help="Such as val_map:max; without it, the last one flagged.",
            autocompletion=completing.metrics_and_modes,
        ),
    ] = None,
    where: asking.Wheres = None,
    recursive: asking.Recursive = False,
    form: Annotated[output.Format, asking.FORM] = output.Format.PATHS,
) -> None:
    """Print the path of the best checkpoint."""
    listing = asking.filtered(asking.listing_of(roots, recursive=recursive), where)
    name, mode = asking.parse_metric(metric)
    chosen = query.best(listing, name, mode)
    if listing.broken:
        what = words.several(len(listing.broken), "checkpoint")
        exits.complain(f"{what} cannot be read and took no part: smartcash-format doctor ROOT")
    if chosen is None:
        exits.stop(_why_none(listing, name, where), exits.FOUND)
    match form:
        case output.Format.JSON:
            output.write_json("best", checkpoint=output.entry_document(chosen))
        case output.Format.CSV:
            output.write_csv([output.entry_row(chosen)], output.ENTRY_COLUMNS)
        case output.Format.TABLE:
            output.show(
                listing_table(
                    Listing(entries=(chosen,)),
                    best=chosen,
                    now=datetime.now(UTC),
                    metric=name,
                    width=terminal.console().width,
                )
            )
        case output.Format.PATHS:
            output.write_paths([chosen])


def _why_none(listing: Listing, metric: str | None, where: list[str] | None) -> str:
    count = len(listing)
    if not count:
        return "no checkpoint meets every --where" if where else "there is no checkpoint"
    if metric is None:
        return f"none of {count} checkpoints is flagged best{_which_metric(listing)}"
    return (
        query.unknown_metric(listing, metric)
        or f"none of {count} checkpoints has a finite number in the metric {metric!r}"
    )


def _which_metric(listing: Listing) -> str:
    """What to ask by instead: the metric that most likely says which is best."""
    from smartcash_format.view.answer import by_likelihood, likely_mode  # few need it

    names = by_likelihood({name for entry in listing for name in entry.metrics})
    if not names:
        return ", and none has a metric to ask by"
    example = shlex.quote(f"{names[0]}:{likely_mode(names[0]) or 'max'}")
    return f": name a metric and which end is good, such as --metric {example}"
