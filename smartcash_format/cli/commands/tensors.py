"""`tensors`: names, shapes and norms, from tensors.json; the weights stay closed."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from smartcash_format.cli import asking, exits, output
from smartcash_format.spec.spelling import number_to_json
from smartcash_format.spec.tensors import TensorRecord
from smartcash_format.store.compare import read_documents
from smartcash_format.view import words
from smartcash_format.view.grid import Cell, Column, Grid
from smartcash_format.view.layers import layer_tree

EXAMPLES = """
\b
Examples:
  smartcash-format tensors CHECKPOINT --tree
  smartcash-format tensors CHECKPOINT --format csv > tensors.csv"""

_COLUMNS = ("set", "name", "dtype", "shape", "l2", "absmax", "nan", "inf", "file", "digest")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("tensors", epilog=EXAMPLES)(tensors)


def tensors(
    checkpoint: asking.Checkpoint,
    tree: Annotated[
        bool, typer.Option("--tree", help="As a tree of modules, repeated layers collapsed.")
    ] = False,
    form: Annotated[output.Format, asking.FORM] = output.Format.TABLE,
) -> None:
    """List the tensors of a checkpoint."""
    if tree and form is not output.Format.TABLE:
        exits.stop(f"--tree draws a table, not {form.value}; leave one of both out", exits.USAGE)
    meta, manifest = read_documents(checkpoint)
    rows = [
        _row(name, tensor, record)
        for name, found in manifest.weights.items()
        for tensor, record in found.tensors.items()
    ]
    match form:
        case output.Format.JSON:
            output.write_json("tensors", path=str(checkpoint), tensors=rows)
        case output.Format.CSV:
            output.write_csv(
                [{**row, "shape": words.shape(row["shape"])} for row in rows], _COLUMNS
            )
        case output.Format.PATHS:
            used = {row["file"] for row in rows}
            output.write_paths(checkpoint / name for name in meta.files if name in used)
        case output.Format.TABLE if tree:
            for name, found in manifest.weights.items():
                output.show(layer_tree(name, found.tensors))
        case output.Format.TABLE:
            output.show(Text(output.harmless(str(checkpoint))))
            for name in manifest.weights:
                title = f"weights {name}" if len(manifest.weights) > 1 else ""
                output.show(_table([row for row in rows if row["set"] == name], title))


def _row(weight_set: str, name: str, record: TensorRecord) -> dict[str, Any]:
    return {
        "set": weight_set,
        "name": name,
        "dtype": record.dtype,
        "shape": list(record.shape),
        "l2": None if record.l2 is None else number_to_json(record.l2),
        "absmax": None if record.absmax is None else number_to_json(record.absmax),
        "nan": record.nan,
        "inf": record.inf,
        "file": record.file,
        "digest": record.digest,
    }


def _table(rows: list[dict[str, Any]], title: str) -> Grid:
    return Grid(
        title=output.harmless(title),
        columns=[
            Column(heading="name", least=20, folds=True),
            Column(heading="dtype"),
            *(
                Column(heading=heading, is_right=True, least=least, folds=least is not None)
                for heading, least in (("shape", 12), ("l2", None), ("absmax", None))
            ),
        ],
        rows=[
            [
                Cell(output.harmless(row["name"])),
                Cell(output.harmless(row["dtype"])),
                Cell(words.shape(row["shape"])),
                *(Cell(_number(row[name])) for name in ("l2", "absmax")),
            ]
            for row in rows
        ],
    )


def _number(value: object) -> str:
    return words.number(value) if isinstance(value, int | float) else str(value or "")
