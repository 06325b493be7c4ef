"""A pin: why a checkpoint must not be removed, and until when (FORMAT.md, Pins).

It lies beside the checkpoints, so that protecting one touches none of its files. What cannot be
read of a pin protects all the same: every pruner of every version honours every pin.
"""

from __future__ import annotations

import re
from datetime import datetime

from pydantic import Field, ValidationError

from smartcash_format.spec import limits
from smartcash_format.spec.documents import dump_lines
from smartcash_format.spec.values import Frozen, ShortText, Time

# `<checkpoint_id>.json`; a second holder of the same checkpoint puts its own name in between.
_NAME = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?:\.[A-Za-z0-9_-]{1,64})?\.json"
)


class Pin(Frozen):
    """Protection of one checkpoint."""

    reason: ShortText = Field(description="for people")
    until: Time | None = Field(default=None, description="UTC; null is for ever")


def pin_for(reason: str, until: datetime | None) -> Pin:
    """The pin for this reason, as a person gave it.

    Raises TypeError for what is no text or no time, ValueError for a reason that is too long or
    that UTF-8 cannot write, or a time without a zone.
    """
    if not isinstance(reason, str):
        raise TypeError(f"reason is a text, not {type(reason).__name__}")
    if len(reason) > limits.SHORT_TEXT:
        message = f"reason has {len(reason):,} characters; at most {limits.SHORT_TEXT} are allowed"
        raise ValueError(message)
    try:
        reason.encode()
    except UnicodeEncodeError:
        raise ValueError(f"reason is no text that UTF-8 can write: {reason!a}") from None
    if not isinstance(until, datetime | None):
        raise TypeError(f"until is a datetime, not {type(until).__name__}")
    if until is not None and until.tzinfo is None:
        raise ValueError("until has no time zone; give datetime(..., tzinfo=UTC)")
    return Pin(reason=reason, until=until)


def pinned_id(name: str) -> str | None:
    """The checkpoint id that a file of this name pins; None when it is no pin."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def parse_pin(data: bytes) -> Pin:
    """The pin that these bytes hold; one without end when they hold none."""
    unreadable = Pin(reason="its pin cannot be read")
    if len(data) > limits.PIN_BYTES:
        return unreadable
    try:
        return Pin.model_validate_json(data, extra="ignore")
    except ValidationError:
        return unreadable


def encode_pin(pin: Pin) -> bytes:
    """The bytes of a pin."""
    return dump_lines(pin.model_dump(mode="json"))
