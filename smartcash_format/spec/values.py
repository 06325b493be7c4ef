"""The types of single fields: how each is written in JSON and what it is in Python."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import core_schema

from smartcash_format.spec import digest, layout, limits, spelling
from smartcash_format.spec.spelling import NON_FINITE, format_time, number_to_json, parse_time


class Frozen(BaseModel):
    """A value of the format: strict and immutable.

    Keys of a newer minor are carried and written again; whoever parses refuses others
    (meta.validate_document).
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", ser_json_inf_nan="constants")


def _time(value: Any) -> datetime:
    if isinstance(value, str):
        return parse_time(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    raise ValueError("is not a UTC time of the form 2026-01-31T12:00:00.000000Z")


class _NumberSchema:
    """A number or the name of one that JSON lacks, told apart in Rust: a manifest has thousands."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        named = core_schema.no_info_after_validator_function(
            NON_FINITE.__getitem__, core_schema.literal_schema([*NON_FINITE])
        )
        # From Python an infinity is itself; in JSON only its name is one, never 1e999.
        floats = core_schema.json_or_python_schema(
            json_schema=core_schema.float_schema(strict=True, allow_inf_nan=False),
            python_schema=core_schema.float_schema(strict=True),
        )
        return core_schema.union_schema(
            [core_schema.int_schema(strict=True), floats, named],
            mode="left_to_right",
            custom_error_type="number_type",
            custom_error_message='is neither a number nor one of "NaN", "Infinity", "-Infinity"',
        )


class _FirstFault:
    """Checking stops at the first wrong element: a hostile document holds a million of them."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        schema: dict[str, Any] = {**handler(source), "fail_fast": True}
        return cast(core_schema.CoreSchema, schema)


K = TypeVar("K")
V = TypeVar("V")
Table = Annotated[dict[K, V], _FirstFault()]
Series = Annotated[list[V], _FirstFault()]
Time = Annotated[
    datetime,
    BeforeValidator(_time),
    PlainSerializer(format_time),
    WithJsonSchema({"type": "string", "pattern": spelling.TIME}),
]
Number = Annotated[
    int | float,
    _NumberSchema(),
    PlainSerializer(number_to_json),
    WithJsonSchema(
        {"anyOf": [{"type": "number"}, {"enum": list(NON_FINITE)}]},
    ),
]
Count = Annotated[int, Field(ge=0, le=limits.INTEGER_MAX)]
Uuid = Annotated[str, StringConstraints(pattern=spelling.UUID)]
# The shape only: an unknown algorithm is a finding at CONTENT and a refusal under verify.
Digest = Annotated[str, StringConstraints(pattern=rf"^{digest.SHAPE.pattern}$")]
ShortText = Annotated[str, StringConstraints(max_length=limits.SHORT_TEXT)]
# In characters; parse_tensors counts the bytes where the two differ.
Name = Annotated[str, StringConstraints(min_length=1, max_length=limits.NAME_BYTES)]
SetName = Annotated[str, StringConstraints(pattern=rf"^{layout.SET_NAME.pattern}$")]
