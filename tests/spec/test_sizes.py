"""Sizes as people write them."""

from __future__ import annotations

import pytest

from smartcash_format.spec.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("5GB", 5_000_000_000), ("500MB", 500_000_000), ("1.5 kb", 1_500), ("2TB", 2 * 10**12),
        ("700", 700), (" 1B ", 1), (1, 1), (5 << 30, 5 << 30),
        ("2GiB", 2 << 30), ("1.5KiB", 1_536), ("1 tib", 1 << 40),
    ],
)  # fmt: skip
def test_a_size_is_a_number_of_bytes_or_text_in_powers_of_ten_or_of_two(
    text: str | int, size_bytes: int
) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "size",
    ["", "GB", "5Gi", "5G", "5iB", "-1GB", "1e9", "big", 0, -1, True, None, 2.5, "0.1B", "9" * 99],
)
def test_what_is_no_size_is_refused_with_an_example(size: object) -> None:
    with pytest.raises(ValueError, match=r"is no size; .* such as 500MB or 2GiB"):
        parse_size(size)  # type: ignore[arg-type]
