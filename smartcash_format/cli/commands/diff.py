"""`diff`: what differs between two checkpoints, from their documents alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from smartcash_format.cli import asking, exits, output
from smartcash_format.spec.diff import Diff, WeightsDiff
from smartcash_format.spec.spelling import number_to_json
from smartcash_format.store.compare import diff as compare
from smartcash_format.view import terminal, words
from smartcash_format.view.comparison import comparison

EXAMPLES = """
\b
Examples:
  smartcash-format diff runs/a/epoch-0010-3f9a2c1b runs/b/epoch-0010-9b04e6d2
  smartcash-format diff A B --format json | jq .weights
  smartcash-format diff A B --format csv > differences.csv"""

_COLUMNS: Final = ("part", "set", "name", "kind", "before", "after", "delta")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("diff", epilog=EXAMPLES)(diff)


def diff(
    before: Annotated[
        Path, typer.Argument(metavar="BEFORE", help="A checkpoint: what only it has is removed.")
    ],
    after: Annotated[
        Path, typer.Argument(metavar="AFTER", help="Another one: what only it has is added.")
    ],
    form: Annotated[output.Format, asking.FORM] = output.Format.TABLE,
) -> None:
    """Compare two checkpoints.

    Exit 1 when they differ in more than identity and time, 3 when one is not there.
    """
    found = compare(before, after)
    match form:
        case output.Format.JSON:
            output.write_json("diff", before=str(before), after=str(after), **_document(found))
        case output.Format.CSV:
            output.write_csv([*_rows(found)], _COLUMNS)
        case output.Format.PATHS:
            output.write_paths([before, after] if found.differs else [])
        case output.Format.TABLE:
            room = terminal.room()
            output.show(comparison(found, before=str(before), after=str(after), room=room))
    if found.differs:
        raise typer.Exit(exits.FOUND)


def _document(found: Diff) -> dict[str, Any]:
    fields = _plain(dataclasses.asdict(found))
    for metric, field in zip(found.metrics, fields["metrics"], strict=True):
        field["delta"] = metric.delta
    return {"differs": found.differs, "same_weights": found.same_weights, **fields}


def _plain(value: Any) -> Any:
    """Values as JSON has them: models as objects, NaN by name."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return number_to_json(value) if isinstance(value, float) else value


def _rows(found: Diff) -> Iterator[dict[str, Any]]:
    """A row for each difference; none for ids and times, which always differ."""
    for part, changes in (("fields", found.fields), ("config", found.config)):
        for change in changes:
            about = {"part": part, "name": change.path, "kind": change.kind}
            yield {**about, "before": change.before, "after": change.after}
    for metric in found.metrics:
        if metric.differs:
            kind = "changed"
            if metric.before is None or metric.after is None:
                kind = "added" if metric.before is None else "removed"
            about = {"part": "metrics", "name": metric.name, "kind": kind}
            values = {"before": metric.before, "after": metric.after, "delta": metric.delta}
            yield {**about, **values}
    for weights in found.weights:
        rows = [
            {"name": name, "kind": kind, "before": before, "after": after}
            for name, kind, before, after in _tensors(weights)
        ]
        if not rows and weights.verdict != "same":  # as when two tensors are no longer tied
            rows = [{"kind": weights.verdict}]
        for row in rows:
            yield {"part": "weights", "set": weights.name, **row}


def _tensors(weights: WeightsDiff) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Each tensor, how it differs, and what stood there before and after."""
    for kind in ("added", "removed", "unknown"):
        for name in getattr(weights, kind):
            yield name, kind, None, None
    for each in weights.renamed:
        yield each.name, "renamed", each.name, each.new_name
    for each in weights.reshaped:
        yield each.name, "reshaped", words.shape(each.before.shape), words.shape(each.after.shape)
    for each in weights.retyped:
        yield each.name, "retyped", each.before.dtype, each.after.dtype
    for each in weights.changed:
        yield each.name, "changed", each.before.digest, each.after.digest
