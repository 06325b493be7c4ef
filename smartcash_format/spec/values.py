"""The types of single fields: how each is written in JSON and what it is in Python."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

from smartcash_format.spec import digest, limits

NON_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
_TIME_PATTERN = re.compile(_TIME)
_UUID: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


class Frozen(BaseModel):
    """A value of the format: strict, immutable, unknown keys refused unless carried."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", ser_json_inf_nan="constants"
    )


def parse_time(text: str) -> datetime:
    """The instant that a timestamp of the format names. Raises ValueError for any other form."""
    if _TIME_PATTERN.match(text) is None:
        raise ValueError("is not a UTC time of the form 2026-01-31T12:00:00.000000Z")
    return datetime.fromisoformat(text)


def format_time(moment: datetime) -> str:
    """An aware instant as the format writes it: UTC, microseconds; sorts as text as in time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"


def _time(value: Any) -> datetime:
    if isinstance(value, str):
        return parse_time(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    raise ValueError("is not a UTC time of the form 2026-01-31T12:00:00.000000Z")


def _number(value: Any) -> int | float:
    if isinstance(value, str) and value in NON_FINITE:
        return NON_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError('is neither a number nor one of "NaN", "Infinity", "-Infinity"')
    return value


def number_to_json(value: int | float) -> int | float | str:
    """A number as the format writes it: the three that JSON lacks go by name."""
    if isinstance(value, int) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


Time = Annotated[
    datetime,
    BeforeValidator(_time),
    PlainSerializer(format_time),
    WithJsonSchema({"type": "string", "pattern": _TIME}),
]
Number = Annotated[
    int | float,
    BeforeValidator(_number),
    PlainSerializer(number_to_json),
    WithJsonSchema(
        {"anyOf": [{"type": "number"}, {"enum": list(NON_FINITE)}]},
    ),
]
Uuid = Annotated[str, StringConstraints(pattern=_UUID)]
# The shape only: an unknown algorithm is a finding at CONTENT and a refusal under verify.
Digest = Annotated[str, StringConstraints(pattern=rf"^{digest.SHAPE.pattern}$")]
ShortText = Annotated[str, StringConstraints(max_length=limits.SHORT_TEXT)]
