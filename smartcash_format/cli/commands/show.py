"""`show`: one checkpoint, from its documents alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from smartcash_format.cli import asking, output
from smartcash_format.disk.read import Opened, open_checkpoint
from smartcash_format.spec import layout
from smartcash_format.spec.diff import leaves
from smartcash_format.store.compare import read_manifest
from smartcash_format.view import terminal
from smartcash_format.view.checkpoint import checkpoint_tree

EXAMPLES = """
\b
Examples:
  smartcash-format show runs/train/weights/epoch-0010-3f9a2c1b
  smartcash-format show CHECKPOINT --format json | jq .meta.config
  smartcash-format show CHECKPOINT --format csv > fields.csv"""

_COLUMNS: Final = ("field", "value")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("show", epilog=EXAMPLES)(show)


def show(
    checkpoint: asking.Checkpoint,
    form: Annotated[output.Format, asking.FORM] = output.Format.TABLE,
) -> None:
    """Show what a checkpoint says of itself.

    Its epoch, metrics, layers, files and config.
    """
    with open_checkpoint(checkpoint) as opened:
        match form:
            case output.Format.JSON:
                meta = json.loads(opened.meta_bytes)
                output.write_json("checkpoint", path=str(checkpoint), meta=meta)
            case output.Format.CSV:
                fields = leaves(json.loads(opened.meta_bytes))
                output.write_csv(
                    [{"field": path, "value": value} for path, value in fields], _COLUMNS
                )
            case output.Format.PATHS:
                output.write_paths(checkpoint / name for name in (layout.META, *opened.meta.files))
            case output.Format.TABLE:
                _show(checkpoint, opened)


def _show(checkpoint: Path, opened: Opened) -> None:
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
