"""What a listing takes from a meta.json: the fields that queries use, checked.

Parsing and checking every field strictly takes three times as long and five times the memory. So
the bytes are held to their own digest, the fields below are parsed as spec.meta has them, the rest
is skipped, and parsed when somebody asks for it. Nothing passes that is wrong in these fields.
"""

from __future__ import annotations

import functools
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
    role: Annotated[str, Field(max_length=32)]
    size_bytes: Count


@with_config(ConfigDict(strict=True))
class _Document(Head):
    metrics: NotRequired[Annotated[dict[ShortText, _Number], Field(max_length=limits.METRICS)]]
    files: Annotated[dict[str, _File], Field(max_length=limits.FILES)]


_parse = TypeAdapter(_Document).validator.validate_json


class Glance(NamedTuple):
    """What was seen: the plain fields, the metrics, and each listed file's name, size and role."""

    head: Head
    metrics: dict[str, int | float]
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    roles: tuple[str, ...]


def glance(data: bytes) -> Glance | None:
    """What the bytes of a meta.json say to a listing.

    None when anything that was looked at is wrong: `parse_meta` of the same bytes says what.
    """
    if len(data) > limits.META_BYTES:
        return None
    try:
        document: _Document = _parse(data)
        if not (_is_readable(document) and digest.seal_holds(data, document["meta_digest"])):
            return None
        parse_time(document["saved_at"])
    except ValueError:
        return None
    files = document.pop("files")  # type: ignore[misc]
    names = _plain_names(tuple(files))
    if names is None:
        return None
    return Glance(
        document,
        _numbers(document.pop("metrics", {})),
        names,
        tuple([record["size_bytes"] for record in files.values()]),
        _same(tuple([record["role"] for record in files.values()])),
    )


def _is_readable(head: Head) -> bool:
    if head["format_version"] == FORMAT_VERSION and head["format"] == FORMAT:
        return True
    return gate(head, where="")[0] is not None


def _numbers(found: dict[str, _Number]) -> dict[str, int | float]:
    return {k: NON_FINITE[v] if isinstance(v, str) else v for k, v in found.items()}


# The same few names and roles stand in every checkpoint of a root: looked at and kept once.
@functools.lru_cache(maxsize=256)
def _plain_names(names: tuple[str, ...]) -> tuple[str, ...] | None:
    return names if all(map(layout.is_plain_name, names)) else None


@functools.lru_cache(maxsize=256)
def _same(roles: tuple[str, ...]) -> tuple[str, ...]:
    return roles
