"""The JSON Schemas of format version 1: of meta.json, tensors.json and a line of the history.

Generated from the models that read those documents, committed under schemas/, so that whoever has
no Python can check the same. What no schema can say stands in FORMAT.md: the digests, that numbers
without a fraction are integers only when written without a point, and what the files hold.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from smartcash_format.spec.history import HistoryLine
from smartcash_format.spec.meta import Meta
from smartcash_format.spec.tensors import Tensors
from smartcash_format.spec.version import FORMAT_VERSION

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
# Checked by the version gate and the seal before the model: a default in Python, never absent from
# a file.
_GATED: Final = ("format", "format_version", "meta_digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    name: str
    model: type[BaseModel]
    description: str
    closed: bool


_DOCUMENTS: Final[dict[str, _Document]] = {
    "meta-v1.schema.json": _Document(
        name="meta",
        model=Meta,
        description="meta.json of a smartcash-format checkpoint: everything that listing, "
        "filtering and choosing need, and the marker that the checkpoint is complete. Keys added "
        "by a newer minor version are described by that version's schema.",
        closed=True,
    ),
    "tensors-v1.schema.json": _Document(
        name="tensors",
        model=Tensors,
        description="tensors.json of a smartcash-format checkpoint: every tensor of every weight "
        "set, without its values. Keys added by a newer minor version are described by that "
        "version's schema.",
        closed=True,
    ),
    "history-line-v1.schema.json": _Document(
        name="history-line",
        model=HistoryLine,
        description="One event of training_history.yaml: the mapping behind the `- ` of one line. "
        "A key with its default is left out; keys that are not described here are ignored.",
        closed=False,
    ),
}


def documents() -> dict[str, bytes]:
    """File name under schemas/ to the bytes of that JSON Schema (draft 2020-12)."""
    return {file: _encoded(document) for file, document in _DOCUMENTS.items()}


def _encoded(document: _Document) -> bytes:
    body = document.model.model_json_schema(schema_generator=_Untitled)
    for part in (body, *body.get("$defs", {}).values()):
        _close(part, closed=document.closed)
    gated = [name for name in _GATED if name in body["properties"]]
    for name in gated:
        del body["properties"][name]["default"]
    body["required"] = gated + body["required"] if "required" in body else gated
    head = {
        "$schema": DIALECT,
        "$id": f"urn:smartcash-format:schema:{document.name}:{FORMAT_VERSION}",
        "title": f"smartcash-format {document.name} {FORMAT_VERSION}",
        "description": document.description,
    }
    definitions = body.pop("$defs", {})
    whole = head | {key: value for key, value in body.items() if key not in head}
    if definitions:
        whole["$defs"] = definitions
    return json.dumps(whole, indent=2, ensure_ascii=False).encode() + b"\n"


def _close(part: dict[str, Any], *, closed: bool) -> None:
    if "properties" in part:
        part["additionalProperties"] = not closed
    for table in part.get("properties", {}).values():
        # The names of weight sets have a pattern; one that breaks it is no other property.
        if "patternProperties" in table:
            table["additionalProperties"] = False


class _Untitled(GenerateJsonSchema):
    """Without "title" for every field: it repeats the name in other letters."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
