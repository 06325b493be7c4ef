"""Which tensors lie together: sizes as people write them, groups that keep to a bound."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.spec.documents import dump_json
from smartcash_format.spec.shards import (
    MAX_SHARD_BYTES,
    SMALL_SHARDS,
    Shard,
    encode_index,
    file_names,
    regroup,
    split,
)


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


MIB = 1 << 20


def grouped(shards: list[Shard]) -> list[tuple[str | None, str]]:
    return [(shard.source, "".join(shard.names)) for shard in shards]


def test_what_has_no_bytes_lies_with_what_changes() -> None:
    shards = regroup({"a": 0, "b": MIB}, frozenset("a"), {"old": "ab"}, MIB)
    assert grouped(shards) == [(None, "ab")]


@given(SIZES, st.integers(1, 30), st.data())
def test_however_grouped_every_tensor_is_in_one_shard_and_kept_files_are_as_they_were(
    sizes: list[int], most: int, data: st.DataObject
) -> None:
    named = {f"t{number}": size * MIB for number, size in enumerate(sizes)}
    still = frozenset(name for name in named if data.draw(st.booleans()))
    earlier: dict[str, set[str]] = {}
    for name in named:
        earlier.setdefault(data.draw(st.sampled_from("abc")), set()).add(name)
    shards = regroup(named, still, earlier, most * MIB)
    assert sorted(name for shard in shards for name in shard.names) == sorted(named)
    assert shards
    for shard in shards:
        assert len(shard.names) <= 1 or sum(named[name] for name in shard.names) <= most * MIB
        if not still.issuperset(shard.names):
            # With what changes lies at most what is not worth a file: tensors without elements.
            assert sum(named[name] for name in still.intersection(shard.names)) == 0
        if shard.source is not None:
            assert set(shard.names) == earlier[shard.source] <= still


def test_what_stands_still_is_apart_and_stays_in_the_file_that_it_has() -> None:
    sizes = {"a": MIB, "b": MIB, "c": MIB, "d": MIB}
    assert grouped(regroup(sizes, {"a", "b"}, {}, 9 * MIB)) == [(None, "ab"), (None, "cd")]
    earlier = {"one": "ab", "two": "cd"}
    assert grouped(regroup(sizes, {"a", "b"}, earlier, 9 * MIB)) == [("one", "ab"), (None, "cd")]
    found = regroup(sizes, {*"abc"}, earlier, 9 * MIB)
    assert grouped(found) == [("one", "ab"), (None, "c"), (None, "d")], "another layer is frozen"
    found = regroup(sizes, {"b"}, earlier, 9 * MIB)
    assert grouped(found) == [(None, "b"), (None, "acd")], "a layer thaws"
    assert grouped(regroup(sizes, {*"abcd"}, {"all": "abcd"}, 9 * MIB)) == [("all", "abcd")]
    found = regroup(sizes, {*"abcd"}, {"all": "abcd"}, 3 * MIB)
    assert grouped(found) == [(None, "abc"), (None, "d")], "a smaller bound is kept"


def test_what_is_not_worth_a_file_has_none() -> None:
    sizes = {"anchors": MIB - 1, "weight": 2 * MIB}
    assert grouped(regroup(sizes, {"anchors"}, {}, 9 * MIB)) == [(None, "anchorsweight")]
    assert grouped(regroup({}, set(), {"model": ()}, 9)) == [(None, "")]


def test_many_small_files_are_written_together_once() -> None:
    sizes = {f"{n:02}": MIB for n in range(SMALL_SHARDS + 2)}
    earlier = {f"file {name}": {name} for name in sizes}
    last = f"{SMALL_SHARDS + 1:02}"
    still = sizes.keys() - {last}
    (apart, rest) = regroup(sizes, still, earlier, 99 * MIB)
    assert (apart.source, set(apart.names), list(rest.names)) == (None, still, [last])
    kept = regroup(sizes, still - {"00"}, earlier, 99 * MIB)
    assert sum(shard.source is not None for shard in kept) == SMALL_SHARDS


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0, 9), max_size=5
    )
)
def test_an_index_is_what_json_makes_of_it(sizes: dict[str, int]) -> None:
    written = encode_index({'file \\ "1"': list(sizes.items())})
    assert written == dump_json(
        {
            "metadata": {"total_size": sum(sizes.values())},
            "weight_map": dict.fromkeys(sizes, 'file \\ "1"'),
        },
        indent=1,
    )
