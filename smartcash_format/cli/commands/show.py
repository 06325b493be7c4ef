"""`show`: one checkpoint, from its documents alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from smartcash_format.cli import asking, output
from smartcash_format.disk.read import open_checkpoint
from smartcash_format.spec import layout
from smartcash_format.store.compare import read_manifest
from smartcash_format.view import terminal
from smartcash_format.view.checkpoint import checkpoint_tree

EXAMPLES = """Examples:

  smartcash-format show runs/train/weights/epoch-0010-3f9a2c1b

  smartcash-format show CHECKPOINT --format json | jq .meta.config"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("show", epilog=EXAMPLES)(show)


def show(
    checkpoint: asking.Checkpoint,
    form: Annotated[output.Document, asking.FORM] = output.Document.TABLE,
) -> None:
    """Show what a checkpoint says of itself.

    Its epoch, metrics, layers, files and config.
    """
    with open_checkpoint(checkpoint) as opened:
        if form is output.Document.JSON:
            output.write_json(
                "checkpoint", path=str(checkpoint), meta=json.loads(opened.meta_bytes)
            )
            return
        tensors, problems = read_manifest(opened)
        listed = {*opened.meta.files, layout.META}
        output.show(
            checkpoint_tree(
                checkpoint,
                opened.meta,
                now=datetime.now(UTC),
                tensors=tensors,
                problems=problems,
                unlisted=sorted(name for name in opened.names() if name not in listed),
                room=terminal.room(),
            )
        )
