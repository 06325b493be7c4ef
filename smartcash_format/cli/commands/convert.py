"""`convert`: what other programs wrote, as checkpoints; no code of theirs runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from smartcash_format.cli import asking, exits, output
from smartcash_format.cli.one_by_one import Failed, one_by_one
from smartcash_format.errors import CheckpointError
from smartcash_format.view import words

if TYPE_CHECKING:
    from smartcash_format import Conversion

EXAMPLES = """
\b
Examples:
  smartcash-format convert checkpoints/best.pth -o runs/converted --dry-run
  smartcash-format convert yolov5s.pt old_checkpoints/ -o runs/converted
  smartcash-format convert old_checkpoints/ -o ROOT --format csv > came.csv

It needs torch. Every tensor is compared with the source before a checkpoint is visible."""

_COLUMNS: Final = (
    "outcome", "source", "path", "kind", "size_bytes", "tensors", "dropped", "warnings", "reason"
)  # fmt: skip


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
    form: Annotated[output.Format, asking.FORM] = output.Format.TABLE,
) -> None:
    """Turn .pt, .pth, .ckpt and safetensors into checkpoints."""
    # The front door loads torch when it is asked for these, and not before.
    import smartcash_format as package

    found: list[Conversion | Failed] = []
    for source in one_by_one("converting files", package.sources_in(sources)):
        try:
            found.append(package.convert(source, root, dry_run=dry_run, allow=tuple(allow or ())))
        # One source that cannot be read leaves the others.
        except (CheckpointError, OSError) as error:
            is_there = os.path.lexists(source)
            said = exits.one_line(error) if is_there else f"{error}; check the path"
            exits.complain(said if str(source) in said else f"{source}: {said}")
            found.append(Failed(source=source, reason=said))
    _print(found, form)
    if any(isinstance(each, Failed) for each in found):
        raise typer.Exit(exits.UNREADABLE)


def _print(found: list[Conversion | Failed], form: output.Format) -> None:
    done = [each for each in found if not isinstance(each, Failed)]
    match form:
        case output.Format.JSON:
            output.write_json(
                "conversions",
                conversions=[_document(each) for each in done],
                failed=[each.document() for each in found if isinstance(each, Failed)],
            )
        case output.Format.CSV:
            output.write_csv([_row(each) for each in found], _COLUMNS)
        case output.Format.PATHS:
            # The same bytes twice are one checkpoint.
            for each in done:  # the answer has no place for it
                for line in _remarks(each):
                    exits.complain(f"{each.source}: {line}")
            output.write_paths(dict.fromkeys(each.path for each in done if each.path is not None))
        case output.Format.TABLE:
            for each in done:
                _show(each)


def _row(found: Conversion | Failed) -> dict[str, Any]:
    if isinstance(found, Failed):
        return {"outcome": "failed", **found.document()}
    outcome = "already" if found.already else "converted"
    return {
        "outcome": "planned" if found.path is None else outcome,
        "source": str(found.source),
        "path": found.path,
        "kind": found.kind,
        "size_bytes": found.size_bytes,
        "tensors": found.tensors,
        "dropped": "; ".join(found.dropped),
        "warnings": "; ".join(found.warnings),
    }


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
    output.show(
        Text(output.harmless(head)),
        Text(output.harmless(f"-> {where}")),
        table,
        *(Text(output.harmless(line)) for line in _remarks(done)),
    )


def _remarks(done: Conversion) -> list[str]:
    dropped = [f"dropped: {line}" for line in done.dropped]
    return dropped + [f"note: {line}" for line in done.warnings]
