"""`prune`: remove what no policy keeps; it only tells, until it is told to apply."""

from __future__ import annotations

import functools
import operator
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from smartcash_format.cli import asking, completing, exits, output
from smartcash_format.errors import CheckpointError, CheckpointNotFoundError
from smartcash_format.spec.sizes import parse_size
from smartcash_format.store.catalog import Listing
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.pruning import Applied, was_protected
from smartcash_format.store.retention import (
    Action,
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
from smartcash_format.view.grid import Cell, Column, Grid

EXAMPLES = """
\b
Examples:
  smartcash-format prune runs/train/weights
  smartcash-format prune runs/train/weights --keep-best val_map:max
  smartcash-format prune runs/train/weights --keep-last 3 --apply
  smartcash-format prune ROOT --remove epoch-0004-6e83f7f2 --apply

Without --keep-... it plans what cleanup_checkpoints() does. The newest, protected, broken and
foreign ones always stay; --remove NAME removes one by its name, but no protected one."""

_STYLES = {"keep": "green", "remove": "red", "strip": "yellow"}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("prune", epilog=EXAMPLES)(prune)


def prune(
    root: asking.Root,
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", metavar="N", min=0, help="The last saved ones.")
    ] = None,
    keep_best: Annotated[
        str | None,
        typer.Option(
            "--keep-best",
            metavar="METRIC:MODE",
            help="The best, as by val_map:max.",
            autocompletion=completing.metrics_and_modes,
        ),
    ] = None,
    best_count: Annotated[
        int | None, typer.Option("--best-count", metavar="N", min=1, help="How many of the best.")
    ] = None,
    keep_every: Annotated[
        int | None,
        typer.Option(
            "--keep-every", metavar="EPOCHS", min=1, help="Of each run every so many epochs."
        ),
    ] = None,
    keep_tagged: Annotated[
        list[str] | None,
        typer.Option("--keep-tagged", metavar="TAG", help="Every one that has this tag."),
    ] = None,
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
            help="Strip optimizers and the like from what is kept, but from the newest N.",
        ),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="NAME", help="This one alone, broken or not."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Remove; without it nothing is.")] = False,
    form: Annotated[output.Format, asking.FORM] = output.Format.TABLE,
) -> None:
    """Show, and with --apply remove, what need not be kept."""
    asking.require_root(root)
    store = CheckpointStore(root)
    metric, mode = asking.parse_metric(keep_best)
    if best_count is not None and metric is None:
        raise ValueError("--best-count says how many of --keep-best METRIC:MODE; name the metric")
    parts: list[Policy | None] = [
        None if keep_last is None else KeepLast(keep_last),
        None if metric is None or mode is None else KeepBest(metric, n=best_count or 1, mode=mode),
        None if keep_every is None else KeepEvery(epochs=keep_every),
        *(KeepTagged(tag) for tag in keep_tagged or ()),
        None if keep_within is None else KeepWithin(size_bytes=parse_size(keep_within)),
        KeepFlagged() if keep_flagged else None,
        None if drop_resume_state is None else DropResumeState(older_than=drop_resume_state),
    ]
    policy = _union([part for part in parts if part is not None])
    if remove:
        if policy is not None:
            raise ValueError("--remove names what goes: no --keep-... or --drop-... with it")
        _remove(store, remove, form, apply=apply)
        return
    listing = store.list()
    if not listing and not listing.broken:
        asking.refuse_checkpoint(root)
    plan = _cleanup(store, listing) if policy is None else store.plan(policy, listing)
    applied = store.apply(plan) if apply else None
    try:
        _print(_rows(plan), plan.freed_bytes, plan.warnings, applied, form)
    finally:  # what was done is said, also where a path could not be
        _say(plan, applied, form)
        if listing.broken:
            exits.complain(_left_alone(len(listing.broken), root))
        elif not plan.decisions and not asking.point_below(root):
            exits.complain(f"{root} has no checkpoint")
    _stop_if_refused(applied)


def _left_alone(count: int, root: Path) -> str:
    what, they = words.several(count, "checkpoint"), "it stays" if count == 1 else "they stay"
    doctor = f"smartcash-format doctor {shlex.quote(str(root))}"
    return (
        f"{what} cannot be read, which no policy can judge: {they}; {doctor} says why, "
        "--remove NAME removes one"
    )


def _cleanup(store: CheckpointStore, listing: Listing) -> Plan:
    """What cleanup_checkpoints() would do; what that warns of is said with options of this."""
    plan = store.plan_cleanup(listing, best=listing.best())
    if not plan.warnings:
        return plan
    # Its own warning is the last, and names arguments of Python's.
    *others, _ = plan.warnings
    flagged = sum(entry.is_best for entry in plan.kept)
    said = f"{flagged} checkpoints are flagged best and stay"
    fewer = "--keep-best METRIC:MODE or --keep-last N keeps fewer"
    return replace(plan, warnings=(*others, f"{said}; {fewer}"))


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


def _stop_if_refused(applied: Applied | None) -> None:
    """Ends the command with what to do where something that was to go is still there."""
    if applied and applied.refused:
        stay = words.several(len(applied.refused), "checkpoint")
        fix = next(filter(None, map(exits.fix_of, applied.refused)), "try it again")
        exits.stop(f"{stay} could not be removed or stripped; {fix}", exits.UNREADABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    action: Action
    path: Path
    epoch: int | None
    size_bytes: int
    reasons: tuple[str, ...]


def _remove(store: CheckpointStore, names: list[str], form: output.Format, *, apply: bool) -> None:
    named = [store.look(name) for name in dict.fromkeys(names)]
    for each in named:
        if os.path.realpath(each.path.parent) != os.path.realpath(store.root):
            raise ValueError(
                f"{each.path} does not lie in {store.root}: name the root that it is in"
            )
    rows = [
        _Row(
            action="remove" if each.stays is None else "keep",
            path=each.path,
            epoch=each.entry.epoch if each.entry else None,
            size_bytes=each.size_bytes,
            reasons=(each.stays or "asked for by its name",),
        )
        for each in named
    ]
    freed = sum(row.size_bytes for row in rows if row.action == "remove")
    paths = tuple(row.path for row in rows if row.action == "remove")
    applied = _removed(store, paths) if apply else None
    try:
        _print(rows, freed, (), applied, form)
    finally:
        if applied is not None:
            for warning in applied.warnings:
                exits.complain(warning)
            freed_text = words.size(applied.freed_bytes)
            exits.complain(f"{len(applied.paths)} removed, {freed_text} freed")
        elif paths and form is output.Format.TABLE:
            exits.complain(f"nothing was removed; --apply removes {len(paths)}")
    _stop_if_refused(applied)
    if len(paths) < len(rows) or (applied and applied.warnings):
        raise typer.Exit(exits.FOUND)


def _removed(store: CheckpointStore, paths: Sequence[Path]) -> Applied:
    """What went; one that stays keeps no other from going."""
    done: list[Path] = []
    refused: list[CheckpointError] = []
    freed_bytes = 0
    for path in paths:
        try:
            freed_bytes += store.remove(path)
            done.append(path)
        except CheckpointNotFoundError:
            continue  # another process was faster
        except CheckpointError as error:
            refused.append(error)
    return Applied(
        paths=tuple(done),
        freed_bytes=freed_bytes,
        warnings=tuple(map(str, refused)),
        refused=tuple(error for error in refused if not was_protected(error)),
    )


def _rows(plan: Plan) -> list[_Row]:
    return [
        _Row(
            action=decision.action,
            path=decision.entry.path,
            epoch=decision.entry.epoch,
            size_bytes=decision.entry.size_bytes,
            reasons=decision.reasons,
        )
        for decision in plan.decisions
    ]


def _print(
    rows: Sequence[_Row],
    freed_bytes: int,
    warnings: Sequence[str],
    applied: Applied | None,
    form: output.Format,
) -> None:
    documents = [
        {
            "action": row.action,
            "path": str(row.path),
            "epoch": row.epoch,
            "size_bytes": row.size_bytes,
            "reasons": list(row.reasons),
        }
        for row in rows
    ]
    match form:
        case output.Format.JSON:
            output.write_json(
                "plan",
                decisions=documents,
                freed_bytes=freed_bytes,
                warnings=list(warnings),
                applied=None if applied is None else _document(applied),
            )
        case output.Format.CSV:
            output.write_csv(
                [
                    {**document, "reasons": "; ".join(row.reasons)}
                    for document, row in zip(documents, rows, strict=True)
                ],
                ("action", "path", "epoch", "size_bytes", "reasons"),
            )
        case output.Format.PATHS:
            output.write_paths(row.path for row in rows if row.action == "remove")
        case output.Format.TABLE:
            output.show(_table(rows))


def _document(applied: Applied) -> dict[str, Any]:
    return {
        "removed": [str(path) for path in applied.paths],
        "stripped": [str(path) for path in applied.stripped],
        "freed_bytes": applied.freed_bytes,
        "warnings": list(applied.warnings),
    }


def _table(rows: Sequence[_Row]) -> Grid:
    return Grid(
        columns=[
            Column(heading=""),
            Column(heading="checkpoint", least=12, folds=True),
            Column(heading="epoch", is_right=True),
            Column(heading="size", is_right=True),
            Column(heading="because", least=20, folds=True),
        ],
        rows=[
            [
                Cell(row.action, _STYLES[row.action]),
                Cell(output.harmless(row.path.name)),
                Cell("-" if row.epoch is None else str(row.epoch)),
                Cell(words.size(row.size_bytes)),
                Cell(output.harmless(", ".join(row.reasons))),
            ]
            for row in rows
        ],
    )
