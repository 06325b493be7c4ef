"""How a time, an id and a number are spelled: what a listing needs, without models."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Final

NON_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
UUID: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_TIME = re.compile(TIME)


def parse_time(text: str) -> datetime:
    """The instant that a timestamp of the format names. Raises ValueError for any other form."""
    if _TIME.fullmatch(text) is None:
        raise ValueError("is not a UTC time of the form 2026-01-31T12:00:00.000000Z")
    return datetime.fromisoformat(text)


def format_time(moment: datetime) -> str:
    """An aware instant as the format writes it: UTC, microseconds; sorts as text as in time."""
    # Not strftime: its %Y has no leading zeros on Linux.
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def number_to_json(value: int | float) -> int | float | str:
    """A number as the format writes it: the three that JSON lacks go by name."""
    if isinstance(value, int) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
