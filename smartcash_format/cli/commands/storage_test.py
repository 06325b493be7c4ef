"""`storage-test`: what the storage under a directory keeps, and how checkpoints fare on it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from smartcash_format.cli import asking, exits, output

EXAMPLES = """
\b
Examples:
  smartcash-format storage-test /mnt/shared
  smartcash-format storage-test /content/drive --format json | jq .usable

It saves, copies and removes a small checkpoint in a hidden directory that is removed again."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("storage-test", epilog=EXAMPLES)(storage_test)


def storage_test(
    directory: Annotated[Path, typer.Argument(help="A directory that is there.", metavar="DIR")],
    form: Annotated[output.Document, asking.FORM] = output.Document.TABLE,
) -> None:
    """Try what saving relies on.

    Exit 1 when no checkpoint can be kept there.
    """
    # The commands that only look need none of the writers behind this.
    from smartcash_format.testing import storage_test as try_out

    asking.require_root(directory)
    report = try_out(directory)
    if form is output.Document.JSON:
        output.write_json(
            "storage-test",
            directory=str(directory),
            file_system=report.file_system,
            usable=report.usable,
            findings=[dataclasses.asdict(finding) for finding in report.findings],
        )
    else:
        output.show(*(Text(output.harmless(line)) for line in report.lines()))
    if not report.usable:
        raise typer.Exit(exits.FOUND)
