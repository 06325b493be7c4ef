from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.spec.digest import (
    SEAL_KEY,
    ZEROS,
    algorithm_of,
    digest_of,
    hasher,
    is_known,
    seal,
    seal_holds,
    weights_digest,
)
from tests.spec.test_documents import TEXT, VALUES

A = "blake3:" + "a" * 64
B = "blake3:" + "b" * 64


def stated_in(data: bytes) -> str:
    found: str = json.loads(data)[SEAL_KEY]
    return found


def test_a_digest_names_its_algorithm_and_the_bytes() -> None:
    assert digest_of(b"abc") == "blake3:" + blake3(b"abc").hexdigest()
    assert digest_of(memoryview(b"abc"), "sha256") == "sha256:" + hashlib.sha256(b"abc").hexdigest()
    assert algorithm_of(digest_of(b"")) == "blake3"


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="md5"):
        hasher("md5")


@pytest.mark.parametrize(
    ("text", "known"),
    [(A, True), ("sha256:" + "0" * 64, True), ("k12:" + "0" * 64, False), ("blake3:00", False)],
)
def test_what_this_reader_can_compute_is_known(text: str, known: bool) -> None:
    assert is_known(text) is known


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_a_sealed_document_holds_and_is_what_was_sealed(document: dict[str, Any]) -> None:
    data = seal(document)
    stated = stated_in(data)
    assert seal_holds(data, stated)
    assert json.loads(data) == {**document, SEAL_KEY: stated}


def test_the_seal_is_the_digest_of_the_bytes_with_zeros_in_its_place() -> None:
    data = seal({"epoch": 3})
    stated = stated_in(data)
    zeroed = data.replace(stated.removeprefix("blake3:").encode(), ZEROS.encode())
    assert digest_of(zeroed) == stated


@pytest.mark.parametrize(
    "config",
    [
        ZEROS,
        f"blake3:{ZEROS}",
        {SEAL_KEY: f"blake3:{ZEROS}"},
        f'"{SEAL_KEY}": "blake3:',
        f'x\n "{SEAL_KEY}": "blake3:{ZEROS}"',
        {f'\n "{SEAL_KEY}': {SEAL_KEY: f"blake3:{ZEROS}"}},
    ],
)
def test_zeros_or_a_seal_inside_the_config_do_not_mislead_the_seal(config: object) -> None:
    data = seal({"config": config, "z": [config]})
    assert seal_holds(data, stated_in(data))


def test_a_document_sealed_again_has_the_same_bytes() -> None:
    data = seal({"epoch": 3, "config": {"lr": 0.1}})
    assert seal(json.loads(data)) == data


def test_a_seal_that_stands_twice_or_nowhere_does_not_hold() -> None:
    data = seal({"epoch": 3})
    stated = stated_in(data)
    digits = stated.removeprefix("blake3:").encode()
    assert not seal_holds(data + digits, stated)
    assert not seal_holds(data.replace(digits[:1], b"\\u0061", 1), B)
    assert not seal_holds(b"{}", stated)


def test_a_seal_by_sha256_is_read() -> None:
    zeroed = b'{"meta_digest":"sha256:' + ZEROS.encode() + b'"}'
    digits = hashlib.sha256(zeroed).hexdigest()
    assert seal_holds(zeroed.replace(ZEROS.encode(), digits.encode()), f"sha256:{digits}")


def test_the_same_names_and_values_have_one_digest_in_any_order() -> None:
    lines: list[tuple[str, str, list[int], str]] = [
        ("é.w", "F32", [2, 2], A),
        ("a", "I64", [], B),
        ("z", "F32", [0], A),
    ]
    assert weights_digest(lines) == weights_digest(reversed(lines))


def test_weights_are_named_by_compact_lines_sorted_by_the_bytes_of_their_names() -> None:
    lines: list[tuple[str, str, list[int], str]] = [
        ("é", "F32", [2], A),
        ("z", "F32", [], B),
    ]
    text = f'["z","F32",[],"{B}"]\n["é","F32",[2],"{A}"]\n'
    assert weights_digest(lines) == digest_of(text.encode())


def test_utf16_order_is_not_the_order_of_the_names() -> None:
    # U+FF5E sorts after U+1F600 by UTF-16 code units and before it by UTF-8 bytes.
    lines: list[tuple[str, str, list[int], str]] = [
        ("\U0001f600", "F32", [], A),
        ("\uff5e", "F32", [], B),
    ]
    text = f'["\uff5e","F32",[],"{B}"]\n["\U0001f600","F32",[],"{A}"]\n'
    assert weights_digest(lines) == digest_of(text.encode())


@pytest.mark.parametrize(
    "other",
    [("b", "F32", [2], A), ("a", "F16", [2], A), ("a", "F32", [1, 2], A), ("a", "F32", [2], B)],
)
def test_another_name_dtype_shape_or_value_is_another_set_of_weights(
    other: tuple[str, str, list[int], str],
) -> None:
    assert weights_digest([("a", "F32", [2], A)]) != weights_digest([other])


LINES = st.tuples(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["F32", 'F"8', "\x00", "é"]),
    st.lists(st.integers(0, 1 << 62), max_size=3),
    st.just(A),
)


@given(st.lists(LINES, max_size=4, unique_by=lambda line: line[0]))
def test_the_lines_are_the_json_of_any_writer(
    lines: list[tuple[str, str, list[int], str]],
) -> None:
    by_name = sorted(lines, key=lambda line: line[0].encode())
    form: dict[str, Any] = {"ensure_ascii": False, "separators": (",", ":")}
    text = "".join(json.dumps(line, **form) + "\n" for line in by_name)
    assert weights_digest(lines) == digest_of(text.encode())
    assert weights_digest(lines, "sha256") == digest_of(text.encode(), "sha256")
