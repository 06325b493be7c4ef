"""`convert`: what other programs wrote, as checkpoints; no code of theirs runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from smartcash_format.cli import asking, exits, output
from smartcash_format.cli.one_by_one import one_by_one
from smartcash_format.errors import CheckpointError
from smartcash_format.view import words

if TYPE_CHECKING:
    from smartcash_format import Conversion

EXAMPLES = """Examples:

  smartcash-format convert checkpoints/best.pth -o runs/converted --dry-run

  smartcash-format convert yolov5s.pt old_checkpoints/ -o runs/converted

It needs torch. Every tensor is compared with the source before a checkpoint is visible."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("convert", epilog=EXAMPLES)(convert)


def convert(
    sources: Annotated[
        list[Path], typer.Argument(help="Files, or directories of them.", metavar="SRC")
    ],
    root: Annotated[Path, typer.Option("--output", "-o", metavar="ROOT", help="Where they go.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would come.")] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="PATTERN", help="Class names that become inert, 'pkg.*'."),
    ] = None,
    form: Annotated[output.Document, asking.FORM] = output.Document.TABLE,
) -> None:
    """Turn .pt, .pth, .ckpt and safetensors into checkpoints."""
    # The front door loads torch when it is asked for these, and not before.
    import smartcash_format as package

    done = []
    failures = 0
    for source in one_by_one("converting files", package.sources_in(sources)):
        try:
            done.append(package.convert(source, root, dry_run=dry_run, allow=tuple(allow or ())))
        # One source that cannot be read leaves the others.
        except (CheckpointError, OSError) as error:
            failures += 1
            is_there = os.path.lexists(source)
            said = exits.one_line(error) if is_there else f"{error}; check the path"
            exits.complain(said if str(source) in said else f"{source}: {said}")
    if form is output.Document.JSON:
        output.write_json("conversions", conversions=[_document(each) for each in done])
    else:
        for each in done:
            _show(each)
    if failures:
        raise typer.Exit(exits.UNREADABLE)


def _document(done: Conversion) -> dict[str, Any]:
    return {
        "source": str(done.source),
        "kind": done.kind,
        "path": None if done.path is None else str(done.path),
        "already": done.already,
        "size_bytes": done.size_bytes,
        "tensors": done.tensors,
        "fields": [
            {"name": field.name, "known": str(field.known), "source": field.source}
            for field in done.fields
        ],
        "dropped": list(done.dropped),
        "warnings": list(done.warnings),
    }


def _show(done: Conversion) -> None:
    where = "planned" if done.path is None else str(done.path)
    if done.already:
        where += ": there already, from the same bytes; nothing was written"
    head = f"{done.source}: {done.kind}, {done.tensors} tensors, {words.size(done.size_bytes)}"
    table = Table(box=None, pad_edge=False)
    for heading in ("field", "", "from"):
        table.add_column(heading, overflow="fold")
    for field in done.fields:
        table.add_row(
            Text(output.harmless(field.name)),
            Text(str(field.known)),
            Text(output.harmless(field.source)),
        )
    lines = [f"dropped: {line}" for line in done.dropped]
    lines += [f"note: {line}" for line in done.warnings]
    output.show(
        Text(output.harmless(head)),
        Text(output.harmless(f"-> {where}")),
        table,
        *(Text(output.harmless(line)) for line in lines),
    )
