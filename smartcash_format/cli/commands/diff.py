"""`diff`: what differs between two checkpoints, from their documents alone."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from smartcash_format.cli import asking, exits, output
from smartcash_format.spec.diff import Diff
from smartcash_format.spec.spelling import number_to_json
from smartcash_format.store.compare import diff as compare
from smartcash_format.view import terminal
from smartcash_format.view.comparison import comparison

EXAMPLES = """Examples:

  smartcash-format diff runs/a/epoch-0010-3f9a2c1b runs/b/epoch-0010-9b04e6d2

  smartcash-format diff A B --format json | jq .weights"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("diff", epilog=EXAMPLES)(diff)


def diff(
    before: asking.Checkpoint,
    after: asking.Checkpoint,
    form: Annotated[output.Document, asking.FORM] = output.Document.TABLE,
) -> None:
    """Compare two checkpoints.

    Exit 1 when they differ in more than identity and time, 3 when one is not there.
    """
    found = compare(before, after)
    if form is output.Document.JSON:
        output.write_json("diff", before=str(before), after=str(after), **_document(found))
    else:
        output.show(comparison(found, before=str(before), after=str(after), room=terminal.room()))
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
