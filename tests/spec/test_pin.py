"""A pin protects until its end, and protects all the same when it cannot be read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from smartcash_format.spec import limits
from smartcash_format.spec.layout import pin_file
from smartcash_format.spec.pin import Pin, encode_pin, parse_pin, pin_for, pinned_id

ID = "abcdef01-1111-4111-8111-111111111111"


@pytest.mark.parametrize("until", [None, datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)])
def test_a_pin_reads_back_as_it_was_written(until: datetime | None) -> None:
    pin = Pin(reason="the paper's table 2 \x1b[31m", until=until)
    assert parse_pin(encode_pin(pin)) == pin


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"until": null}',
        b'{"reason": "x", "until": "tomorrow"}',
        b'{"reason": "' + b"x" * limits.PIN_BYTES + b'"}',
    ],
)
def test_a_pin_that_cannot_be_read_protects_for_ever(data: bytes) -> None:
    pin = parse_pin(data)
    assert pin.until is None
    assert pin.reason == "its pin cannot be read"


def test_a_pin_of_a_newer_version_keeps_its_end() -> None:
    data = b'{"reason": "r", "until": "2026-01-02T03:04:05.000006Z", "owner": 7}'
    assert parse_pin(data) == Pin(reason="r", until=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (pin_file(ID), ID),
        (f"{ID}.reader-12.json", ID),
        (f".{ID}.json", None),
        (f"{ID}.json.tmp", None),
        (f"{ID}..json", None),
        ("README.json", None),
        (f"{ID.upper()}.json", None),
    ],
)
def test_a_pin_is_known_by_the_id_in_its_name(name: str, expected: str | None) -> None:
    assert pinned_id(name) == (ID if expected else None)


@pytest.mark.parametrize(
    ("reason", "until", "error", "message"),
    [
        ("x" * 257, None, ValueError, "reason has 257 characters; at most 256 are allowed"),
        (5, None, TypeError, "reason is a text, not int"),
        ("\ud800", None, ValueError, r"reason is no text that UTF-8 can write: '\ud800'"),
        ("why", datetime(2026, 1, 1), ValueError, "until has no time zone"),  # noqa: DTZ001
        ("why", "2026-01-01", TypeError, "until is a datetime, not str"),
    ],
)
def test_what_is_no_pin_is_refused_in_a_sentence(
    reason: Any, until: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        pin_for(reason, until)
    assert type(caught.value) is error
    assert message in str(caught.value)


def test_the_longest_reason_in_the_widest_characters_is_a_pin_that_is_read_again() -> None:
    for character in ("x", "\0", "\U0001f600", '"'):
        pin = pin_for(character * 256, datetime(2026, 1, 1, tzinfo=UTC))
        assert parse_pin(encode_pin(pin)) == pin
