from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from smartcash_format.spec.spelling import format_time, number_to_json, parse_time
from smartcash_format.spec.values import (
    Digest,
    Frozen,
    Number,
    Time,
    Uuid,
)


class Sample(Frozen):
    number: Number | None = None
    time: Time | None = None


UUID: TypeAdapter[str] = TypeAdapter(Uuid)
DIGEST: TypeAdapter[str] = TypeAdapter(Digest)


ZONES = st.builds(
    lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-14 * 60, 14 * 60)
)
MOMENTS = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=ZONES,
)


@given(MOMENTS)
def test_a_time_is_written_in_utc_and_read_back_the_same_instant(moment: datetime) -> None:
    text = format_time(moment)
    assert parse_time(text) == moment
    assert parse_time(text).utcoffset() == timedelta(0)
    assert text.endswith("Z")


@given(MOMENTS, MOMENTS)
def test_times_sort_as_text_as_they_do_in_time(one: datetime, other: datetime) -> None:
    assert (format_time(one) < format_time(other)) == (one < other)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000", "2026-01-31 12:00:00.000000Z",
        "2026-01-31T12:00:00.000000+00:00", "2026-02-31T12:00:00.000000Z",
        "2026-01-31T25:00:00.000000Z", "2026-01-31T12:00:00.000000Z\n", "20260131T120000.000000Z",
        "٢٠٢٦-01-31T12:00:00.000000Z", "0000-01-31T12:00:00.000000Z", "",
    ],
)  # fmt: skip
def test_a_time_in_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are those of two libraries
        parse_time(text)
    with pytest.raises(ValidationError):
        Sample.model_validate({"time": text})


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="is not a UTC time"):
        Sample(time=datetime(2026, 1, 31))  # noqa: DTZ001 - this is the breach


def test_a_time_in_another_zone_becomes_utc() -> None:
    zone = timezone(timedelta(hours=7))
    sample = Sample(time=datetime(2026, 1, 31, 7, tzinfo=zone))
    assert sample.time == datetime(2026, 1, 31, tzinfo=UTC)
    assert sample.model_dump(mode="json")["time"] == "2026-01-31T00:00:00.000000Z"


@given(st.floats() | st.integers(-(1 << 63), (1 << 63) - 1))
def test_a_number_is_written_and_read_back_with_its_type(number: float) -> None:
    dumped = Sample(number=number).model_dump(mode="json")
    back = Sample.model_validate(dumped).number
    assert type(back) is type(number)
    assert back is not None
    assert back == number or (math.isnan(number) and math.isnan(back))


@pytest.mark.parametrize(
    ("number", "text"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")]
)
def test_the_three_numbers_that_json_lacks_go_by_name(number: float, text: str) -> None:
    assert number_to_json(number) == text
    assert repr(Sample.model_validate({"number": text}).number) == repr(number)
    assert repr(Sample.model_validate_json(f'{{"number":"{text}"}}').number) == repr(number)


@pytest.mark.parametrize("value", ["3", "nan", "inf", "", True, [], {}, "1e3", "+Infinity"])
def test_what_is_no_number_is_refused_in_one_sentence(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Sample.model_validate({"number": value})
    (error,) = caught.value.errors()
    assert error["msg"] == 'is neither a number nor one of "NaN", "Infinity", "-Infinity"'
    assert error["loc"] == ("number",)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "1e999", "-1e999", '"3"', "true"])
def test_bytes_hold_no_non_finite_literal(literal: str) -> None:
    with pytest.raises(ValidationError):
        Sample.model_validate_json(f'{{"number":{literal}}}')


@pytest.mark.parametrize(
    "text",
    ["3F9A2C1B-0000-4000-8000-000000000000", "3f9a2c1b00004000800000000000000", "", "{x}",
     "3f9a2c1b-0000-4000-8000-000000000000\n"],
)  # fmt: skip
def test_an_id_is_a_lowercase_uuid_with_dashes(text: str) -> None:
    UUID.validate_python("3f9a2c1b-0000-4000-8000-000000000000")
    with pytest.raises(ValidationError):
        UUID.validate_python(text)


def test_a_digest_of_a_later_algorithm_is_a_digest() -> None:
    DIGEST.validate_python("k12:" + "0f" * 32)
    for text in ("blake3:" + "0F" * 32, "0f" * 32, "blake3:", "blake3:" + "0f" * 32 + "\n"):
        with pytest.raises(ValidationError):
            DIGEST.validate_python(text)


def test_a_value_of_the_format_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Sample().number = 1
