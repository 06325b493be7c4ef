"""`export`: the weights of a checkpoint as one file for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from smartcash_format.cli import asking, exits, output
from smartcash_format.view import words

EXAMPLES = """
\b
Examples:
  smartcash-format export CHECKPOINT -o model.safetensors
  smartcash-format export CHECKPOINT -o ema.pt --set ema

It needs torch. Every byte is verified first; the file is there only when it is whole."""


class Form(StrEnum):
    """What the file is."""

    SAFETENSORS = "safetensors"
    TORCH = "torch"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("export", epilog=EXAMPLES)(export)


def export(
    checkpoint: asking.Checkpoint,
    file: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file.")],
    to: Annotated[
        Form | None,
        typer.Option("--to", help="The form, if the ending of FILE is not to decide it."),
    ] = None,
    weight_set: Annotated[
        str, typer.Option("--set", metavar="NAME", help="The weight set, such as ema.")
    ] = "model",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    form: Annotated[output.Format, asking.FORM] = output.Format.TABLE,
) -> None:
    """Write the weights as one file of safetensors or torch."""
    # The front door loads torch when it is asked for this, and not before.
    import smartcash_format as package

    with exits.force_replaces():
        done = package.export(
            checkpoint,
            file,
            to=None if to is None else to.value,
            weight_set=weight_set,
            overwrite=force,
        )
    row = {"path": str(done.path), "size_bytes": done.size_bytes, "tensors": done.tensors}
    match form:
        case output.Format.JSON:
            output.write_json("export", **row, notes=list(done.notes))
        case output.Format.CSV:
            output.write_csv([{**row, "notes": "; ".join(done.notes)}], ())
        case output.Format.PATHS:
            for note in done.notes:
                exits.complain(f"note: {note}")  # the answer has no place for it
            output.write_paths([done.path])
        case output.Format.TABLE:
            output.line(f"{done.path}: {done.tensors} tensors, {words.size(done.size_bytes)}")
            for note in done.notes:
                output.line(f"note: {note}")
