"""Which tensors lie together: sizes as people write them, groups that keep to a bound."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.spec.shards import (
    MAX_SHARD_BYTES,
    encode_index,
    file_names,
    parse_size,
    split,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("5GB", 5_000_000_000), ("500MB", 500_000_000), ("1.5 kb", 1_500), ("2TB", 2 * 10**12),
        ("700", 700), (" 1B ", 1), (1, 1), (5 << 30, 5 << 30),
    ],
)  # fmt: skip
def test_a_size_is_a_number_of_bytes_or_text_in_powers_of_ten(
    text: str | int, size_bytes: int
) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "size",
    ["", "GB", "5GiB", "5G", "-1GB", "1e9", "five", 0, -1, True, None, 2.5, "0.1B", "9" * 99],
)
def test_what_is_no_size_is_refused_with_an_example(size: object) -> None:
    with pytest.raises(ValueError, match='"5GB"'):
        parse_size(size)  # type: ignore[arg-type]


def test_the_default_is_that_of_huggingface_hub() -> None:
    assert MAX_SHARD_BYTES == 5 * 10**9


SIZES = st.lists(st.integers(0, 40), max_size=30)


@given(SIZES, st.integers(1, 30))
def test_every_name_is_in_one_group_and_no_group_of_several_is_too_large(
    sizes: list[int], most: int
) -> None:
    named = {f"t{number}": size for number, size in enumerate(sizes)}
    groups = split(named.items(), most)
    assert sorted(name for group in groups for name in group) == sorted(named)
    assert groups
    assert all(groups) or groups == [[]]
    for group in groups:
        assert len(group) <= 1 or sum(named[name] for name in group) <= most


def test_a_tensor_beyond_the_bound_does_not_part_those_around_it() -> None:
    assert split([("a", 3), ("big", 11), ("b", 3), ("c", 5)], 10) == [["big"], ["a", "b"], ["c"]]


def test_files_of_one_are_plain_and_shards_are_counted_from_1() -> None:
    assert file_names("model", 1) == ["model.safetensors"]
    assert file_names("ema", 2) == [
        "ema-00001-of-00002.safetensors",
        "ema-00002-of-00002.safetensors",
    ]


def test_the_index_has_the_total_and_the_file_of_each_tensor() -> None:
    data = encode_index({"first": [("a", 8), ("b", 4)], "second": [("c", 1)]})
    assert json.loads(data) == {
        "metadata": {"total_size": 13},
        "weight_map": {"a": "first", "b": "first", "c": "second"},
    }
