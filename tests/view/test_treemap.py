"""Treemaps: areas are sizes, nothing overlaps, the whole is filled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.view.treemap import squarified

SIZES = st.lists(st.floats(min_value=1, max_value=1e6), min_size=1, max_size=40)


@given(SIZES)
def test_areas_are_sizes_and_fill_the_whole_without_overlap(sizes: list[float]) -> None:
    sizes.sort(reverse=True)
    found = squarified(sizes, 100, 40)
    for size, place in zip(sizes, found, strict=True):
        assert place.width * place.height == pytest.approx(size / sum(sizes) * 4_000, rel=1e-6)
        assert place.x >= -1e-6
        assert place.y >= -1e-6
        assert place.x + place.width <= 100 + 1e-6
        assert place.y + place.height <= 40 + 1e-6
    for i, one in enumerate(found):
        for other in found[i + 1 :]:
            wide = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            high = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert min(wide, high) <= 1e-6


def test_four_equal_sizes_in_a_square_are_squares() -> None:
    assert squarified([1, 1, 1, 1], 10, 10) == [
        (0, 0, 5, 5),
        (0, 5, 5, 5),
        (5, 0, 5, 5),
        (5, 5, 5, 5),
    ]


def test_nothing_has_no_rectangle() -> None:
    assert squarified([], 10, 10) == []
