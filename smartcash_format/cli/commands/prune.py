"""`prune`: remove what no policy keeps; it only tells, until it is told to apply."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from smartcash_format.cli import asking, exits, output
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.retention import (
    KeepBest,
    KeepEvery,
    KeepFlagged,
    KeepLast,
    KeepTagged,
    KeepWithin,
    Plan,
    Policy,
)
from smartcash_format.view import words

EXAMPLES = """Examples:

  smartcash-format prune runs/train/weights

  smartcash-format prune runs/train/weights --keep-last 3 --keep-best val_map:max --apply

Without --keep-... it plans what cleanup_checkpoints() does. The newest, protected, broken and
foreign ones always stay."""

_STYLES = {"keep": "green", "remove": "red", "strip": "yellow"}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("prune", epilog=EXAMPLES)(prune)


def prune(
    root: asking.Root,
    keep_last: Annotated[int | None, typer.Option("--keep-last", metavar="N", min=0)] = None,
    keep_best: Annotated[
        str | None, typer.Option("--keep-best", metavar="METRIC:MODE", help="The best by a metric.")
    ] = None,
    best_count: Annotated[
        int, typer.Option("--best-count", metavar="N", min=1, help="How many of the best.")
    ] = 1,
    keep_every: Annotated[int | None, typer.Option("--keep-every", metavar="EPOCHS", min=1)] = None,
    keep_tagged: Annotated[list[str] | None, typer.Option("--keep-tagged", metavar="TAG")] = None,
    keep_within: Annotated[
        str | None, typer.Option("--keep-within", metavar="SIZE", help="The newest that fit.")
    ] = None,
    keep_flagged: Annotated[
        bool, typer.Option("--keep-flagged", help="Every one that was flagged best.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Remove; without it nothing is.")] = False,
    form: Annotated[output.Format, typer.Option("--format")] = output.Format.TABLE,
) -> None:
    """Show, and with --apply remove, what need not be kept."""
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such directory")
    store = CheckpointStore(root)
    parts: list[Policy] = []
    if keep_last is not None:
        parts.append(KeepLast(keep_last))
    metric, mode = asking.parse_metric(keep_best)
    if metric is not None and mode is not None:
        parts.append(KeepBest(metric, n=best_count, mode=mode))
    if keep_every is not None:
        parts.append(KeepEvery(epochs=keep_every))
    parts += [KeepTagged(tag) for tag in keep_tagged or ()]
    if keep_within is not None:
        parts.append(KeepWithin(size_bytes=asking.parse_size(keep_within)))
    if keep_flagged:
        parts.append(KeepFlagged())
    plan = store.plan(_union(parts)) if parts else store.plan_cleanup(best=store.best())
    _print(plan, form)
    for warning in plan.warnings:
        exits.complain(warning)
    if apply:
        done = store.apply(plan)
        for warning in done.warnings:
            exits.complain(warning)
        exits.complain(f"{len(done.paths)} removed, {words.size(done.freed_bytes)} freed")
    elif plan.doomed and form is output.Format.TABLE:
        exits.complain(f"nothing was removed; --apply removes {len(plan.doomed)}")


def _union(parts: list[Policy]) -> Policy:
    policy, *rest = parts
    for part in rest:
        policy = policy | part
    return policy


def _print(plan: Plan, form: output.Format) -> None:
    rows = [
        {
            "action": decision.action,
            "path": str(decision.entry),
            "epoch": decision.entry.epoch,
            "size_bytes": decision.entry.size_bytes,
            "reasons": list(decision.reasons),
        }
        for decision in plan.decisions
    ]
    match form:
        case output.Format.JSON:
            output.write_json("plan", decisions=rows, freed_bytes=plan.freed_bytes)
        case output.Format.CSV:
            output.write_csv([{**row, "reasons": "; ".join(row["reasons"])} for row in rows])  # type: ignore[arg-type]
        case output.Format.PATHS:
            output.write_paths(plan.doomed)
        case output.Format.TABLE:
            output.show(_table(plan))


def _table(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "checkpoint", "epoch", "size", "because"):
        table.add_column(heading, overflow="fold")
    for decision in plan.decisions:
        entry = decision.entry
        table.add_row(
            Text(decision.action, style=_STYLES[decision.action]),
            Text(words.harmless(entry.name)),
            Text(str(entry.epoch)),
            Text(words.size(entry.size_bytes)),
            Text(words.harmless(", ".join(decision.reasons))),
        )
    return table
