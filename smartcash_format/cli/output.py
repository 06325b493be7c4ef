"""Answers as table, JSON, CSV or paths: the forms that docs/cli.md promises."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from smartcash_format.spec.spelling import number_to_json
from smartcash_format.view import terminal, words

if TYPE_CHECKING:
    from rich.console import RenderableType

    from smartcash_format.store.catalog import Listing
    from smartcash_format.store.entry import Broken, Entry

# The version of the documents that --format json prints; see docs/cli.md.
JSON_VERSION: Final = 1
# What a checkpoint's row in CSV begins with.
ENTRY_COLUMNS: Final = (
    "path", "name", "checkpoint_id", "run_id", "parent_id", "derived_from", "saved_at", "epoch",
    "step", "is_best", "backbone", "dataset", "tags", "size_bytes", "has_optimizer",
)  # fmt: skip
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


def write(text: str | bytes) -> None:
    """Everything that a command answers goes through here, as it is, to standard output.

    A reader that has gone (`ls | head`) is no error: the command goes on without one, so that it
    ends with its own exit code.
    """
    try:
        if isinstance(text, str):
            sys.stdout.write(text)
        elif isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.flush()
            sys.stdout.buffer.write(text)
        else:  # what a caller put in its place takes text alone
            sys.stdout.write(os.fsdecode(text))
        sys.stdout.flush()
    except BrokenPipeError:
        no_reader()


def write_utf8(text: str) -> None:
    """What a program reads (CSV, XML, HTML), in UTF-8 whatever the locale: XML and HTML say so.

    On a terminal it is spelled as that does.
    """
    write(text if terminal.is_terminal() else text.encode("utf-8", "backslashreplace"))


def no_reader() -> None:
    """Sends what else is written to standard output nowhere."""
    # The descriptor too: Python flushes once more at exit and would complain there.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def line(text: str) -> None:
    """One line, its control characters shown and never sent."""
    write(f"{harmless(text)}\n")


def harmless(text: str) -> str:
    """Foreign text for an answer: nothing in it is obeyed, and nothing of it is cut."""
    return words.harmless(text, None)


def show(*parts: RenderableType) -> None:
    """Renders for the eye; trailing blanks are dropped where no terminal needs them."""
    target = terminal.console()
    with target.capture() as captured:
        for part in parts:
            target.print(part, crop=False)  # a long path goes on in the next line, whole
    text = captured.get()
    if not terminal.is_terminal():
        text = "\n".join(line.rstrip() for line in text.split("\n"))
    write(text)


def write_json(kind: str, **content: Any) -> None:
    """One JSON document: its kind and version first, strict, in UTF-8."""
    document = {"kind": f"smartcash-format/{kind}", "version": JSON_VERSION, **content}
    write(json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n")


def write_csv(rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """Rows below a line of the columns and of every other key, which stands there without a row.

    A cell that a spreadsheet would compute gets a quote.
    """
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([_cell(name) for name in names])
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    write_utf8(target.getvalue())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(number_to_json(value))
    # ASCII, as --format json has it.
    plain = json.dumps(value) if isinstance(value, dict | list) else str(value)
    text = harmless(plain)
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_paths(paths: Iterable[os.PathLike[str]]) -> None:
    """A path a line: byte for byte for a program, its control characters shown to a person.

    Raises ValueError for a name with a line break, which would be two paths, once all others are
    written: what was done is done.
    """
    texts = [str(path) for path in paths]
    lines = [text for text in texts if "\n" not in text]
    shown = map(harmless, lines) if terminal.is_terminal() else lines
    write(b"".join(os.fsencode(text) + b"\n" for text in shown))
    for text in texts:
        if "\n" in text:
            raise ValueError(f"{text!r} has a line break in its name: --format json can say it")


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
