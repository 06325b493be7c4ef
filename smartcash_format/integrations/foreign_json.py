"""JSON that other programs wrote: as strict as our own, but for the number literals of Python."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from smartcash_format.integrations.found import Found
from smartcash_format.spec.documents import parse_json

# An index of a model with 100,000 tensors has a tenth of it; so has a long training's log.
JSON_BYTES: Final = 64 << 20
# Strings are matched first, so that a literal inside one stays as it is.
_LITERAL: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|-?Infinity|NaN')


def read_json(path: Path) -> tuple[Any, str]:
    """The value of a document and "", or None and why it is not read.

    Python's writer leaves NaN and infinities as literals that no JSON has: they become the strings
    that meta.json has for them. A file that is not there is None and "".
    """
    if not path.is_file():
        return None, ""
    with path.open("rb") as stream:
        data = stream.read(JSON_BYTES + 1)
    value, problems = parse_json(_LITERAL.sub(_quoted, data), where=path.name, max_bytes=JSON_BYTES)
    return value, problems[0].message if problems else ""


def document_of(found: Found, path: Path) -> Any:
    """The value of a document of the source, or None; one that is not read is among the dropped."""
    value, why = read_json(path)
    if why:
        found.dropped.append(f"{path.name}: {why}")
    elif value is not None:
        found.files.append(path)
    return value


def _quoted(match: re.Match[bytes]) -> bytes:
    text = match[0]
    return text if text.startswith(b'"') else b'"' + text + b'"'
