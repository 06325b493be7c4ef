"""What a listing takes from a meta.json: the fields that queries use, checked.

Parsing and checking every field strictly takes three times as long and five times the memory. So
the bytes are held to their own digest, the fields below are parsed as spec.meta has them, the rest
is skipped, and parsed when somebody asks for it. Nothing passes that is wrong in these fields.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, with_config

# pydantic cannot read the TypedDict of Python 3.11's own typing.
from typing_extensions import TypedDict

from smartcash_format.spec import digest, layout, limits
from smartcash_format.spec.values import NON_FINITE, Count, Digest, ShortText, Uuid, parse_time
from smartcash_format.spec.version import FORMAT, FORMAT_VERSION, gate

_Integer = Annotated[int, Field(ge=limits.INTEGER_MIN, le=limits.INTEGER_MAX)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
# As values.Number, without calling Python for each one.
_Number = Annotated[
    _Integer | _Finite | Literal["NaN", "Infinity", "-Infinity"],
    Field(union_mode="left_to_right"),
]


class Head(TypedDict):
    """The plain fields of a meta.json that queries use."""

    format: str
    format_version: str
    meta_digest: Digest
    checkpoint_id: Uuid
    run_id: Uuid
    parent_id: NotRequired[Uuid | None]
    derived_from: NotRequired[Uuid | None]
    saved_at: Annotated[str, Field(max_length=32)]
    epoch: Count
    step: NotRequired[Count | None]
    is_best: bool
    backbone: NotRequired[ShortText | None]
    dataset: NotRequired[ShortText | None]
    tags: NotRequired[Annotated[list[ShortText], Field(max_length=limits.TAGS)]]


class _File(TypedDict):
    size_bytes: Count


@with_config(ConfigDict(strict=True))
class _Document(Head):
    metrics: NotRequired[Annotated[dict[ShortText, _Number], Field(max_length=limits.METRICS)]]
    files: Annotated[dict[str, _File], Field(max_length=limits.FILES)]


_parse = TypeAdapter(_Document).validator.validate_json


class Glance(NamedTuple):
    """What was seen: the plain fields, the metrics, the listed names and their sizes."""

    head: Head
    metrics: dict[str, int | float]
    names: tuple[str, ...]
    sizes: tuple[int, ...]


def glance(documents: Sequence[bytes]) -> list[Glance | None]:
    """What the bytes of each meta.json say to a listing.

    None where anything that was looked at is wrong: `parse_meta` of the same bytes says what. One
    step is done for all before the next, which keeps each in the processor's caches.
    """
    parsed = [_parsed(data) for data in documents]
    whole = [
        document if document is not None and _is_whole(data, document) else None
        for data, document in zip(documents, parsed, strict=True)
    ]
    return [None if document is None else _seen(document) for document in whole]


def _parsed(data: bytes) -> _Document | None:
    if len(data) > limits.META_BYTES:
        return None
    try:
        document: _Document = _parse(data)
        parse_time(document["saved_at"])
    except ValueError:
        return None
    return document


def _is_whole(data: bytes, document: _Document) -> bool:
    try:
        return _is_readable(document) and digest.seal_holds(data, document["meta_digest"])
    except ValueError:  # a digest of an unknown algorithm
        return False


def _seen(document: _Document) -> Glance | None:
    files = document.pop("files")  # type: ignore[misc]
    names = _plain_names(tuple(files))
    if names is None:
        return None
    metrics = _numbers(document.pop("metrics", {}))
    return Glance(document, metrics, names, tuple([one["size_bytes"] for one in files.values()]))


def _is_readable(head: Head) -> bool:
    if head["format_version"] == FORMAT_VERSION and head["format"] == FORMAT:
        return True
    return gate(head, where="")[0] is not None


def _numbers(found: dict[str, _Number]) -> dict[str, int | float]:
    return {k: NON_FINITE[v] if isinstance(v, str) else v for k, v in found.items()}


# The same few names stand in every checkpoint of a root: looked at and kept once.
@functools.lru_cache(maxsize=256)
def _plain_names(names: tuple[str, ...]) -> tuple[str, ...] | None:
    return names if all(map(layout.is_plain_name, names)) else None
