"""`prune`: remove what no policy keeps; it only tells, until it is told to apply."""

from __future__ import annotations

import functools
import operator
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from smartcash_format.cli import asking, exits, output
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.pruning import Applied
from smartcash_format.store.retention import (
    DropResumeState,
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
    drop_resume_state: Annotated[
        int | None,
        typer.Option(
            "--drop-resume-state",
            metavar="N",
            min=0,
            help="Also strip what is kept of optimizers in all but the newest N.",
        ),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Remove; without it nothing is.")] = False,
    form: Annotated[output.Format, typer.Option("--format")] = output.Format.TABLE,
) -> None:
    """Show, and with --apply remove, what need not be kept."""
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such directory")
    store = CheckpointStore(root)
    metric, mode = asking.parse_metric(keep_best)
    parts: list[Policy | None] = [
        None if keep_last is None else KeepLast(keep_last),
        None if metric is None or mode is None else KeepBest(metric, n=best_count, mode=mode),
        None if keep_every is None else KeepEvery(epochs=keep_every),
        *(KeepTagged(tag) for tag in keep_tagged or ()),
        None if keep_within is None else KeepWithin(size_bytes=asking.parse_size(keep_within)),
        KeepFlagged() if keep_flagged else None,
        None if drop_resume_state is None else DropResumeState(older_than=drop_resume_state),
    ]
    policy = _union([part for part in parts if part is not None])
    plan = store.plan_cleanup(best=store.best()) if policy is None else store.plan(policy)
    applied = store.apply(plan) if apply else None
    _print(plan, applied, form)
    _say(plan, applied, form)


def _union(parts: list[Policy]) -> Policy | None:
    return functools.reduce(operator.or_, parts) if parts else None


def _say(plan: Plan, applied: Applied | None, form: output.Format) -> None:
    for warning in (*plan.warnings, *(applied.warnings if applied else ())):
        exits.complain(warning)
    if applied:
        stripped = f", {len(applied.stripped)} stripped" if applied.stripped else ""
        freed = words.size(applied.freed_bytes)
        exits.complain(f"{len(applied.paths)} removed{stripped}, {freed} freed")
    elif (plan.doomed or plan.stripped) and form is output.Format.TABLE:
        stripped = f" and strips {len(plan.stripped)}" if plan.stripped else ""
        exits.complain(f"nothing was removed; --apply removes {len(plan.doomed)}{stripped}")


def _print(plan: Plan, applied: Applied | None, form: output.Format) -> None:
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
            output.write_json(
                "plan",
                decisions=rows,
                freed_bytes=plan.freed_bytes,
                warnings=list(plan.warnings),
                applied=None if applied is None else _document(applied),
            )
        case output.Format.CSV:
            output.write_csv([{**row, "reasons": "; ".join(row["reasons"])} for row in rows])  # type: ignore[arg-type]
        case output.Format.PATHS:
            output.write_paths(plan.doomed)
        case output.Format.TABLE:
            output.show(_table(plan))


def _document(applied: Applied) -> dict[str, Any]:
    return {
        "removed": [str(path) for path in applied.paths],
        "stripped": [str(path) for path in applied.stripped],
        "freed_bytes": applied.freed_bytes,
        "warnings": list(applied.warnings),
    }


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
