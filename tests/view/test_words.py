"""Values as short texts: no unit that a person would not use, and nothing too large to say."""

from __future__ import annotations

from datetime import timedelta

import pytest

from smartcash_format.view import words
from tests.store.checkpoints import START

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (89, "1.5 min"),
        (10 * MINUTE, "10 min"),
        (59.6 * MINUTE, "1 h"),
        (90 * MINUTE, "1.5 h"),
        (9.96 * HOUR, "10 h"),
        (23.4 * HOUR, "23 h"),
        (23.6 * HOUR, "1 d"),
        (36 * HOUR, "1.5 d"),
        (364 * DAY, "364 d"),
        (364.9 * DAY, "1 y"),
        (1000 * DAY, "2.7 y"),
    ],
)
def test_an_age_is_in_the_largest_unit_that_fits(seconds: float, said: str) -> None:
    assert words.age(START, START + timedelta(seconds=seconds)) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.0 k"),
        (17_600_000, "17.6 M"),
        (10**17, "100 P"),
        (10**400, "over 1000 P"),
    ],
)
def test_a_count_of_any_size_is_said(number: int, said: str) -> None:
    assert words.count(number) == said


def test_a_text_is_cut_where_it_is_asked_for() -> None:
    assert words.harmless("abcdef", 4) == "abc…"
    assert words.harmless("x" * 5_000, None) == "x" * 5_000
    assert words.harmless("\x1b[2J\u202e", None) == "\\x1b[2J\\u202e"
