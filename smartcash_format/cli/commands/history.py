"""`history`: what happened in a root."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Final

import typer

from smartcash_format.cli import asking, exits, output
from smartcash_format.spec import layout
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.history import History
from smartcash_format.view import words
from smartcash_format.view.grid import Cell, Column, Grid

EXAMPLES = """
\b
Examples:
  smartcash-format history runs/train/weights
  smartcash-format history runs/train/weights --format csv > history.csv"""

# The width of `epoch-0016-00000010`.
_NAME: Final = 19
_COLUMNS = ("checkpoint", "run_id", "parent", "saved_at", "epoch", "step", "is_best")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("history", epilog=EXAMPLES)(history)


def history(
    root: asking.Root,
    form: Annotated[output.Format, asking.FORM] = output.Format.TABLE,
) -> None:
    """Show the runs of a root.

    Where each resumed, how far it came, and which epoch was its best.
    """
    asking.require_root(root)
    found = CheckpointStore(root).events()
    summary = found.summary()
    if not summary["runs"]:
        asking.refuse_checkpoint(root)
    for sentence in found.unread():
        exits.complain(sentence)
    if found.rebuilt and summary["runs"]:
        told = "made of its checkpoints, without those that are gone"
        exits.complain(f"{root} has no {layout.HISTORY} of this format: {told}")
    match form:
        case output.Format.JSON:
            output.write_json("history", **summary)
        case output.Format.CSV:
            output.write_csv(found.rows(), _COLUMNS)
        case output.Format.PATHS:
            output.write_paths(root / name for name in _names(found))
        case output.Format.TABLE:
            output.show(_table(summary["runs"]))
    if form is output.Format.PATHS and (odd := len(found.rows()) - len(_names(found))):
        names = words.several(odd, "name")
        exits.complain(f"{names} that no checkpoint can have: --format csv shows them")
    if not summary["runs"]:
        listing = CheckpointStore(root).list()
        if listing:
            has = f"{root} has {words.several(len(listing), 'checkpoint')}"
            exits.complain(
                f"{has}, and its {layout.HISTORY} tells of no save; without that file they tell it"
            )
        elif listing.broken:
            broken = words.several(len(listing.broken), "checkpoint")
            doctor = f"smartcash-format doctor {shlex.quote(str(root))}"
            exits.complain(f"{root} tells of no save: {broken} cannot be read; {doctor} says why")
        elif not asking.point_below(root):
            exits.complain(f"{root} tells of no save")
        raise typer.Exit(exits.FOUND)


def _names(found: History) -> list[str]:
    """The checkpoints that were saved; a file of others may name what is none, such as `../x`."""
    names = [str(row["checkpoint"]) for row in found.rows()]
    return [
        name
        for name in names
        if name and name.isprintable() and Path(name).name == name and not layout.is_hidden(name)
    ]


def _table(runs: list[dict[str, object]]) -> Grid:
    return Grid(
        columns=[
            Column(heading="run"),
            *(Column(heading=heading, least=10, folds=True) for heading in ("started", "ended")),
            *(Column(heading=heading, is_right=True) for heading in ("epochs", "saves")),
            # Nothing is cut: the name that a person takes along stays whole, the other one folds.
            Column(heading="best", least=_NAME, folds=True),
            Column(heading="resumed from", least=8, folds=True),
        ],
        rows=[[Cell(output.harmless(text)) for text in _row(run)] for run in runs],
    )


def _row(run: dict[str, object]) -> list[str]:
    best = run["best"]
    return [
        str(run["run_id"])[:8],
        _minute(run["started_at"]),
        _minute(run["ended_at"]),
        f"{run['first_epoch']}-{run['last_epoch']}",
        str(run["saves"]),
        str(best["checkpoint"]) if isinstance(best, dict) else "-",
        str(run["resumed_from"] or "-"),
    ]


def _minute(time: object) -> str:
    """`2026-01-31 12:03`: the seconds are in JSON."""
    return str(time)[:16].replace("T", " ")
