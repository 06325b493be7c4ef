"""A history line reads the same as JSON and as YAML."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.spec import limits
from smartcash_format.spec.history import HistoryLine, encode_line, flow, parse_line

RUN = "3f9a2c1b-0000-4000-8000-000000000000"
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(limits.INTEGER_MIN, limits.INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)
keys = st.text(st.characters(codec="utf-8"), max_size=limits.HISTORY_KEY_CHARACTERS)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
)


@given(st.dictionaries(keys, values, max_size=5))
def test_json_and_yaml_read_every_mapping_to_equal_values(value: dict[str, object]) -> None:
    text = flow(value)
    assert "\n" not in text
    assert json.loads(text) == value
    assert yaml.safe_load(text) == value
    assert yaml.safe_load(f"- {text}\n- {text}\n") == [value, value]


@pytest.mark.parametrize("number", [1e-05, 1e16, -2.5e-300, 1e22, 0.1, 5e-324, 3.0])
def test_a_small_or_large_float_is_a_number_for_yaml_too(number: float) -> None:
    assert yaml.safe_load(flow(number)) == number
    assert isinstance(yaml.safe_load(flow(number)), float)


def test_a_line_comes_back_as_it_was_written() -> None:
    line = HistoryLine(
        event="save", at=AT, run_id=RUN, checkpoint="epoch-0001-3f9a2c1b", epoch=1, is_best=True,
        metrics={"val/loss": 1e-07, "diverged": float("inf"), "🙂": 3},
    )  # fmt: skip
    text = encode_line(line)
    assert text.endswith("\n")
    assert parse_line(text) == line
    assert yaml.safe_load(text) == [json.loads(text.removeprefix("- "))]


def test_a_torn_or_foreign_line_is_no_event() -> None:
    text = encode_line(HistoryLine(event="save", at=AT, run_id=RUN))
    for cut in range(len(text) - 1):
        assert parse_line(text[:cut]) is None
    assert parse_line("total_runs: 3") is None
    assert parse_line("- " + "x" * limits.HISTORY_LINE_BYTES) is None


def test_a_line_of_a_newer_minor_is_read_without_what_it_adds() -> None:
    text = encode_line(HistoryLine(event="save", at=AT, run_id=RUN, epoch=3))
    newer = text.replace("{", '{"added": 1, ', 1)
    assert parse_line(newer) == parse_line(text)


def test_names_beyond_one_line_are_told_in_several() -> None:
    names = [f"{number:06}{'n' * 200}" for number in range(1_000)]
    line = HistoryLine(event="cleanup", at=AT, run_id=RUN, checkpoints=names)
    texts = encode_line(line).splitlines(keepends=True)
    assert all(len(text.encode()) <= limits.HISTORY_LINE_BYTES for text in texts)
    parsed = [found for text in texts if (found := parse_line(text)) is not None]
    assert [name for found in parsed for name in found.checkpoints] == names
    assert all(found.model_copy(update={"checkpoints": names}) == line for found in parsed)


def test_metrics_that_make_a_line_too_long_are_left_out() -> None:
    metrics = {f"{'m' * 200}{number}": float(number) for number in range(900)}
    line = HistoryLine(event="save", at=AT, run_id=RUN, epoch=3, metrics=metrics)
    text = encode_line(line)
    assert len(text.encode()) <= limits.HISTORY_LINE_BYTES
    parsed = parse_line(text)
    assert parsed is not None
    assert parsed.epoch == 3
    assert not parsed.metrics
