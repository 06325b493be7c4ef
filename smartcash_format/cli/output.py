"""Answers as table, JSON, CSV or paths: the forms that docs/cli.md promises."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import typer
from rich.console import Console, RenderableType

from smartcash_format.spec.values import number_to_json
from smartcash_format.store.catalog import Listing
from smartcash_format.store.entry import Broken, Entry
from smartcash_format.view import words

# The version of the documents that --format json prints; see docs/cli.md.
JSON_VERSION: Final = 1
# Wide enough that nothing is cut where no person looks.
PIPED_WIDTH: Final = 100_000
# What a spreadsheet takes for a formula at the start of a cell.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class Format(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PATHS = "paths"


class Document(StrEnum):
    """How one document is printed."""

    TABLE = "table"
    JSON = "json"


class Sheet(StrEnum):
    """How rows without a path of their own are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def console() -> Console:
    """Standard output: as wide as the terminal, or uncut where it is none; NO_COLOR holds."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=PIPED_WIDTH, no_color=True)


def show(*parts: RenderableType) -> None:
    """Renders for the eye; trailing blanks are dropped where no terminal needs them."""
    target = console()
    if target.is_terminal:
        for part in parts:
            target.print(part)
        return
    with target.capture() as captured:
        for part in parts:
            target.print(part)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def write_json(kind: str, **content: Any) -> None:
    """One JSON document: its kind and version first, strict, in UTF-8."""
    document = {"kind": f"smartcash-format/{kind}", "version": JSON_VERSION, **content}
    typer.echo(json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False))


def write_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with a header of every key; a cell that a spreadsheet would compute gets a quote."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([_cell(name) for name in names])
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    typer.echo(target.getvalue(), nl=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(number_to_json(value))
    text = words.harmless(str(value), 10_000)
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_paths(items: Iterable[os.PathLike[str]]) -> None:
    """A path a line, as the system spells it."""
    for item in items:
        typer.echo(str(item))


def entry_document(entry: Entry) -> dict[str, Any]:
    """What JSON output says of a checkpoint."""
    return {
        "path": str(entry),
        "name": entry.name,
        "checkpoint_id": entry.checkpoint_id,
        "run_id": entry.run_id,
        "parent_id": entry.parent_id,
        "derived_from": entry.derived_from,
        "saved_at": entry.saved_at_text,
        "epoch": entry.epoch,
        "step": entry.step,
        "is_best": entry.is_best,
        "metrics": {name: number_to_json(value) for name, value in entry.metrics.items()},
        "backbone": entry.backbone,
        "dataset": entry.dataset,
        "tags": list(entry.tags),
        "size_bytes": entry.size_bytes,
        "has_optimizer": entry.has_optimizer,
    }


def entry_row(entry: Entry) -> dict[str, Any]:
    """The same, flat: a column for each metric."""
    document = entry_document(entry)
    metrics = document.pop("metrics")
    document["tags"] = " ".join(entry.tags)
    return {**document, **{f"metrics.{name}": value for name, value in metrics.items()}}


def broken_document(broken: Broken) -> dict[str, Any]:
    """What JSON output says of what cannot be read."""
    return {"path": str(broken), "code": broken.code, "reason": broken.reason}


def listing_document(listing: Listing) -> dict[str, Any]:
    """A listing for JSON output."""
    return {
        "checkpoints": [entry_document(entry) for entry in listing],
        "broken": [broken_document(broken) for broken in listing.broken],
        "legacy": [str(path) for path in listing.legacy],
    }
