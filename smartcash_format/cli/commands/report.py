"""`report`: the checkpoints of some roots as one HTML file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from smartcash_format.cli import asking, completing, exits, output
from smartcash_format.view import words
from smartcash_format.view.answer import answer
from smartcash_format.view.report import render, write_report

EXAMPLES = """
\b
Examples:
  smartcash-format report runs/train/weights -o report.html
  smartcash-format report runs -r --best val_map:max -o report.html"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("report", epilog=EXAMPLES)(report)


def report(
    roots: asking.Roots,
    file: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The file, or - for standard output."),
    ],
    where: asking.Wheres = None,
    best: Annotated[
        str | None,
        typer.Option(
            "--best",
            metavar="METRIC:MODE",
            help="What decides the best, such as val_map:max.",
            autocompletion=completing.metrics_and_modes,
        ),
    ] = None,
    recursive: asking.Recursive = False,
) -> None:
    """Write one HTML file, to be opened offline.

    The best, the curves, the table, and differences.
    """
    listing = asking.filtered(asking.listing_of(roots, recursive=recursive), where)
    metric, mode = asking.parse_metric(best)
    title = " ".join(map(str, roots))
    if str(file) == "-":
        found = answer(list(listing), metric, mode)
        output.write_utf8(render(listing, found, now=datetime.now(UTC), title=title))
    else:
        written = write_report(
            file, listing, now=datetime.now(UTC), title=title, metric=metric, mode=mode
        )
        count = words.several(len(listing), "checkpoint")
        output.line(f"{file}: {count}, {words.size(written.size_bytes)}")
    if not len(listing):
        raise typer.Exit(exits.FOUND)
