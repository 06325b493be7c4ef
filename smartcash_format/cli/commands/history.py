"""`history`: what happened in a root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from smartcash_format.cli import asking, exits, output
from smartcash_format.spec import layout
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.history import History

EXAMPLES = """Examples:

  smartcash-format history runs/train/weights

  smartcash-format history runs/train/weights --format csv > history.csv"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("history", epilog=EXAMPLES)(history)


def history(
    root: asking.Root,
    form: Annotated[output.Format, typer.Option("--format")] = output.Format.TABLE,
) -> None:
    """Show the runs of a root: where each resumed, how far it came, which was best."""
    asking.require_root(root)
    found = CheckpointStore(root).events()
    summary = found.summary()
    match form:
        case output.Format.JSON:
            output.write_json("history", **summary)
        case output.Format.CSV:
            output.write_csv(found.rows())
        case output.Format.PATHS:
            output.write_paths(root / name for name in _names(found))
        case output.Format.TABLE:
            output.show(_table(summary["runs"]))
    if form is output.Format.PATHS and (odd := len(found.rows()) - len(_names(found))):
        exits.complain(f"{odd} names are no names of checkpoints: --format json shows them")
    for sentence in found.unread():
        exits.complain(sentence)
    if not summary["runs"]:
        raise typer.Exit(exits.FOUND)


def _names(found: History) -> list[str]:
    """The checkpoints that were saved; a file of others may name what is none, such as `../x`."""
    names = [str(row["checkpoint"]) for row in found.rows()]
    return [
        name
        for name in names
        if name and name.isprintable() and Path(name).name == name and not layout.is_hidden(name)
    ]


def _table(runs: list[dict[str, object]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "started", "ended"):
        table.add_column(heading, no_wrap=True)
    # What a person compares stays whole; long names give way.
    table.add_column("epochs", justify="right", no_wrap=True)
    table.add_column("saves", justify="right", no_wrap=True)
    table.add_column("best", overflow="ellipsis", no_wrap=True)
    table.add_column("resumed from", overflow="ellipsis", no_wrap=True)
    for run in runs:
        best = run["best"]
        table.add_row(
            Text(output.harmless(str(run["run_id"])[:8])),
            Text(_minute(run["started_at"])),
            Text(_minute(run["ended_at"])),
            Text(f"{run['first_epoch']}-{run['last_epoch']}"),
            Text(str(run["saves"])),
            Text(output.harmless(str(best["checkpoint"])) if isinstance(best, dict) else "-"),
            Text(output.harmless(str(run["resumed_from"] or "-"))),
        )
    return table


def _minute(time: object) -> str:
    """`2026-01-31 12:03`: the seconds are in JSON."""
    return str(time)[:16].replace("T", " ")
