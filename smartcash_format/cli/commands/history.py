"""`history`: what happened in a root."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from smartcash_format.cli import asking, exits, output
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.view import words

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
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such directory")
    found = CheckpointStore(root).events()
    summary = found.summary()
    match form:
        case output.Format.JSON:
            output.write_json("history", **summary)
        case output.Format.CSV:
            output.write_csv(found.rows())
        case output.Format.PATHS:
            for row in found.rows():
                typer.echo(str(root / str(row["checkpoint"])))
        case output.Format.TABLE:
            output.show(_table(summary["runs"]))
    if found.skipped:
        exits.complain(f"{found.skipped} lines could not be read: smartcash-format doctor --fix")
    if not summary["runs"]:
        raise typer.Exit(exits.FOUND)


def _table(runs: list[dict[str, object]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "started", "ended", "resumed from", "epochs", "saves", "best"):
        table.add_column(heading, no_wrap=True)
    for run in runs:
        best = run["best"]
        table.add_row(
            Text(str(run["run_id"])[:8]),
            Text(str(run["started_at"])[:19]),
            Text(str(run["ended_at"])[:19]),
            Text(words.harmless(str(run["resumed_from"] or "-"))),
            Text(f"{run['first_epoch']} to {run['last_epoch']}"),
            Text(str(run["saves"])),
            Text(words.harmless(str(best["checkpoint"])) if isinstance(best, dict) else "-"),
        )
    return table
