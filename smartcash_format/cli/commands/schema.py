"""`schema`: the JSON Schemas of the format's documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smartcash_format.cli import exits, output
from smartcash_format.spec.schema import documents

EXAMPLES = """
\b
Examples:
  smartcash-format schema meta-v1.schema.json > meta.schema.json
  smartcash-format schema --write schemas/"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("schema", epilog=EXAMPLES)(schema)


def schema(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Which one; without it, their names.",
            autocompletion=lambda: [*documents()],
        ),
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="DIR", help="Write all of them there.")
    ] = None,
) -> None:
    """Print a JSON Schema, or the names of all."""
    found = documents()
    if write is not None:
        if name is not None:
            raise ValueError(f"--write writes all of them: leave out {name!r} or --write")
        write.mkdir(parents=True, exist_ok=True)
        for file, data in found.items():
            (write / file).write_bytes(data)
        return
    if name is None:
        for file in found:
            output.line(file)
        return
    if name not in found:
        exits.stop(f"there is no schema {name!r}; there are: {', '.join(found)}", exits.USAGE)
    output.write(found[name])
