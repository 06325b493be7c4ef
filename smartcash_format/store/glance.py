"""What a listing takes from a meta.json: the fields that queries use, checked.

Parsing and checking every field strictly takes three times as long and five times the memory. So
the bytes are held to their own digest, the fields below are parsed as spec.meta has them, the rest
is skipped, and parsed when somebody asks for it. Nothing passes that is wrong in these fields.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, NotRequired, TypedDict, cast

from pydantic_core import SchemaValidator

from smartcash_format.spec import digest, layout, limits
from smartcash_format.spec.spelling import NON_FINITE, TIME, UUID
from smartcash_format.spec.version import FORMAT, FORMAT_VERSION, gate

_Schema = dict[str, Any]


class _File(TypedDict):
    size_bytes: int


class _Document(TypedDict):
    format: str
    format_version: str
    meta_digest: str
    checkpoint_id: str
    run_id: str
    parent_id: NotRequired[str | None]
    derived_from: NotRequired[str | None]
    saved_at: str
    epoch: int
    step: NotRequired[int | None]
    is_best: bool
    backbone: NotRequired[str | None]
    dataset: NotRequired[str | None]
    tags: NotRequired[list[str]]
    metrics: NotRequired[dict[str, int | float | str]]
    files: dict[str, _File]


def _fields(required: _Schema, optional: _Schema) -> _Schema:
    wanted = {name: (schema, True) for name, schema in required.items()}
    wanted |= {name: (schema, False) for name, schema in optional.items()}
    fields = {
        name: {"type": "typed-dict-field", "schema": schema, "required": is_required}
        for name, (schema, is_required) in wanted.items()
    }
    return {
        "type": "typed-dict",
        "fields": fields,
        "extra_behavior": "ignore",
        "config": {"strict": True},
    }


def _or_null(schema: _Schema) -> _Schema:
    return {"type": "nullable", "schema": schema}


# The same as spec.values has, in pydantic's own terms: its models take 80 ms to import, and a
# listing of a hundred takes a tenth of that (decision 0036).
_TEXT: Final[_Schema] = {"type": "str", "max_length": limits.SHORT_TEXT}
_COUNT: Final[_Schema] = {"type": "int", "ge": 0, "le": limits.INTEGER_MAX}
_ID: Final[_Schema] = {"type": "str", "pattern": UUID}
# As values.Number, without calling Python for each one.
_NUMBER: Final[_Schema] = {
    "type": "union",
    "mode": "left_to_right",
    "choices": [
        {"type": "int", "ge": limits.INTEGER_MIN, "le": limits.INTEGER_MAX},
        {"type": "float", "allow_inf_nan": False},
        {"type": "literal", "expected": [*NON_FINITE]},
    ],
}
_DOCUMENT: Final = _fields(
    {
        "format": {"type": "str"},
        "format_version": {"type": "str"},
        "meta_digest": {"type": "str"},  # its form is that of the digest that it must equal
        "checkpoint_id": _ID,
        "run_id": _ID,
        "saved_at": {"type": "str", "pattern": TIME},
        "epoch": _COUNT,
        "is_best": {"type": "bool"},
        "files": {
            "type": "dict",
            "keys_schema": {"type": "str"},
            "values_schema": _fields({"size_bytes": _COUNT}, {}),
            "max_length": limits.FILES,
        },
    },
    {
        "parent_id": _or_null(_ID),
        "derived_from": _or_null(_ID),
        "step": _or_null(_COUNT),
        "backbone": _or_null(_TEXT),
        "dataset": _or_null(_TEXT),
        "tags": {"type": "list", "items_schema": _TEXT, "max_length": limits.TAGS},
        "metrics": {
            "type": "dict",
            "keys_schema": _TEXT,
            "values_schema": _NUMBER,
            "max_length": limits.METRICS,
        },
    },
)
_parse = SchemaValidator(_DOCUMENT).validate_json


class Glance(NamedTuple):
    """What was seen: the fields that queries use, the listed names and their sizes."""

    # Not a dict: thousands are kept, and it takes four times the memory.

    meta_digest: str
    checkpoint_id: str
    run_id: str
    parent_id: str | None
    derived_from: str | None
    saved_at: str
    epoch: int
    step: int | None
    is_best: bool
    backbone: str | None
    dataset: str | None
    tags: tuple[str, ...]
    metrics: dict[str, int | float]
    names: tuple[str, ...]
    sizes: tuple[int, ...]


# Those that stand in a meta.json as they are kept.
_PLAIN: Final = Glance._fields[: Glance._fields.index("tags")]
_plain_of: Final = operator.itemgetter(*_PLAIN)
_ABSENT: Final = dict.fromkeys(_PLAIN)


def glance(documents: Sequence[bytes]) -> list[Glance | None]:
    """What the bytes of each meta.json say to a listing.

    None where anything that was looked at is wrong: `parse_meta` of the same bytes says what. One
    step is done for all before the next, which keeps each in the processor's caches.
    """
    parsed = _parsed(documents)
    return [
        None if document is None or not is_whole else _seen(document)
        for document, is_whole in zip(parsed, _are_whole(documents, parsed), strict=True)
    ]


def _parsed(documents: Sequence[bytes]) -> list[_Document | None]:
    found = []
    for data in documents:
        document: _Document | None = None
        if data and len(data) <= limits.META_BYTES:
            try:
                document = _parse(data)
                datetime.fromisoformat(document["saved_at"])  # raises for a day that is none
            except ValueError:
                document = None
        found.append(document)
    return found


def _are_whole(documents: Sequence[bytes], parsed: Sequence[_Document | None]) -> list[bool]:
    found = []
    for data, document in zip(documents, parsed, strict=True):
        try:
            found.append(
                document is not None
                and _is_readable(document)
                and digest.seal_holds(data, document["meta_digest"])
            )
        except ValueError:  # a digest of an unknown algorithm
            found.append(False)
    return found


def _seen(document: _Document) -> Glance | None:
    files = document["files"]
    names = _plain_names(tuple(files))
    if names is None:
        return None
    try:
        plain = _plain_of(document)
    except KeyError:  # a writer may leave out what is null
        plain = _plain_of({**_ABSENT, **document})
    tags = tuple(document.get("tags", ()))
    metrics = _numbers(document.get("metrics", {}))
    sizes = tuple([one["size_bytes"] for one in files.values()])
    return Glance._make((*plain, tags, metrics, names, sizes))


def _is_readable(document: _Document) -> bool:
    if document["format_version"] == FORMAT_VERSION and document["format"] == FORMAT:
        return True
    return gate(document, where="")[0] is not None


def _numbers(found: dict[str, int | float | str]) -> dict[str, int | float]:
    if str not in map(type, found.values()):
        return cast("dict[str, int | float]", found)
    return {k: NON_FINITE[v] if isinstance(v, str) else v for k, v in found.items()}


# The same few names stand in every checkpoint of a root: looked at and kept once.
@functools.lru_cache(maxsize=256)
def _plain_names(names: tuple[str, ...]) -> tuple[str, ...] | None:
    return names if all(map(layout.is_plain_name, names)) else None
