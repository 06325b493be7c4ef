"""What a glance at meta.json refuses, and what it leaves to the whole parse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartcash_format.spec import digest, layout
from smartcash_format.spec.digest import seal
from smartcash_format.spec.meta import encode_meta, parse_meta
from smartcash_format.store import glance as module
from smartcash_format.store.glance import glance
from tests.store.checkpoints import build_meta

FIELDS = st.sampled_from(sorted(build_meta(1).model_dump(mode="json")))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.sampled_from([2**63, 1.5, "", "NaN", "2026-02-30T00:00:00.000000Z", "x" * 300])
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "model.safetensors", "x" * 300]), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(changes=st.dictionaries(FIELDS, VALUES, max_size=2), dropped=st.sets(FIELDS, max_size=1))
@settings(max_examples=150, deadline=None)
def test_what_a_glance_refuses_is_refused_by_the_whole_parse_or_names_a_bad_file(
    changes: dict[str, Any], dropped: set[str]
) -> None:
    document = build_meta(1).model_dump(mode="json") | changes
    data = seal({key: value for key, value in document.items() if key not in dropped})
    meta, _ = parse_meta(data)
    if glance([data]) == [None]:
        assert meta is None or not all(map(layout.is_plain_name, meta.files))


LOOKED_AT = sorted(module._DOCUMENT["fields"])
WRONG: list[Any] = [
    None, True, -1, 2**63, 1.5, 1, "", "a", "1.0", "x" * 257,
    "ABCDEF01-1111-4111-8111-111111111111", "blake3:" + "G" * 64, "blake3:" + "a" * 31,
    "2026-02-30T00:00:00.000000Z", "2026-01-31T12:00:00Z",
    [], ["x" * 257], [1], ["a"] * 101, {}, {"a": "x"}, {"a": None}, {"a": True},
    {"x" * 257: 1}, {str(number): 1 for number in range(1001)},
    {"a": {"role": "aux", "digest": "blake3:" + "ab" * 32, "size_bytes": -1}},
    {"a": {"role": "aux", "digest": "blake3:" + "ab" * 32, "size_bytes": 1.0}},
    {"a": {"role": "aux", "digest": "blake3:" + "ab" * 32}}, {"a": []},
]  # fmt: skip


@pytest.mark.parametrize("field", LOOKED_AT)
def test_a_glance_refuses_what_is_wrong_in_a_field_that_it_looks_at(field: str) -> None:
    document = build_meta(1).model_dump(mode="json")
    refused = 0
    for value in WRONG:
        changed = document | {field: value}
        raw = json.dumps(changed).encode() if field == digest.SEAL_KEY else seal(changed)
        meta, problems = parse_meta(raw)
        (seen,) = glance([raw])
        assert (seen is None) is (meta is None), (value, problems)
        refused += meta is None
    assert refused > 5
    without = seal({key: value for key, value in document.items() if key != field})
    assert (glance([without]) == [None]) is (parse_meta(without)[0] is None)


@given(flip=st.integers(0, len(encode_meta(build_meta(1))) * 8 - 1))
@settings(max_examples=200, deadline=None)
def test_a_glance_refuses_every_flipped_bit(flip: int) -> None:
    data = bytearray(encode_meta(build_meta(1)))
    data[flip // 8] ^= 1 << flip % 8
    assert glance([bytes(data)]) == [None]
