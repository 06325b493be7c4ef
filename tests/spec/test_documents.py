from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smartcash_format.spec import limits
from smartcash_format.spec.documents import (
    EXPLAINED_BYTES,
    count_key_marks,
    dump_json,
    dump_lines,
    parse_json,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(limits.INTEGER_MIN, limits.INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def parse(data: bytes | str, **bounds: int) -> Any:
    raw = data.encode() if isinstance(data, str) else data
    value, problems = parse_json(
        raw, where="it", max_bytes=bounds.pop("max_bytes", 1 << 20), **bounds
    )
    assert problems == ()
    return value


def refused(data: bytes | str, **bounds: int) -> tuple[str, str]:
    raw = data.encode() if isinstance(data, str) else data
    value, problems = parse_json(
        raw, where="it", max_bytes=bounds.pop("max_bytes", 1 << 20), **bounds
    )
    assert value is None
    (problem,) = problems
    assert problem.where == "it"
    return problem.code, problem.message


def reference(data: bytes) -> Any:
    """What json.loads reads from a document without its leniencies, or ValueError."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(found)) != len(found):
            raise ValueError("twice")
        return dict(found)

    def number(text: str) -> float:
        if math.isinf(float(text)):
            raise ValueError("too large")
        return float(text)

    def integer(text: str) -> int:
        if not limits.INTEGER_MIN <= int(text) <= limits.INTEGER_MAX:
            raise ValueError("beyond 64 bits")
        return int(text)

    def constant(text: str) -> float:
        raise ValueError(text)

    value = json.loads(
        data.decode("utf-8"),
        object_pairs_hook=pairs,
        parse_float=number,
        parse_int=integer,
        parse_constant=constant,
    )
    json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


@given(st.dictionaries(TEXT, VALUES | st.dictionaries(TEXT, VALUES, max_size=3), max_size=5))
def test_lines_are_read_back_equal(document: dict[str, Any]) -> None:
    data = dump_lines(document)
    assert parse(data) == document
    assert repr(parse(data)) == repr(json.loads(dump_json(document)))


def test_each_key_of_two_levels_has_its_line() -> None:
    document = {"é": {"z": [1, {"a": None}], "b": {"c": {}, "a": 1}}, "a": {}, "b": [], "c": "\n"}
    assert dump_lines(document).decode().splitlines() == [
        "{",
        ' "a": {},',
        ' "b": [],',
        ' "c": "\\n",',
        ' "é": {',
        '  "b": {"a":1,"c":{}},',
        '  "z": [1,{"a":null}]',
        " }",
        "}",
    ]
    assert dump_lines({}) == dump_json({})
    with pytest.raises(ValueError, match="JSON"):
        dump_lines({"a": {"b": float("nan")}})


@given(VALUES, st.sampled_from([None, 1, 2]))
def test_what_is_written_is_read_back_equal(value: Any, indent: int | None) -> None:
    back = parse(dump_json(value, indent=indent))
    assert back == value
    assert repr(back) == repr(json.loads(dump_json(value)))


@given(st.binary(max_size=60))
@example(b"[" * 5_000)
@example(b'{"a":' * 5_000)
@example(b"[" * 64 + b"]" * 64)
@example(b"\xff")
@example(b"")
@example(b"1" * 5_000)
@example(b'"\\ud800"')
def test_no_bytes_make_it_raise(data: bytes) -> None:
    value, problems = parse_json(data, where="it", max_bytes=1 << 20)
    assert value is None or problems == ()


JSONISH = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", ",", ":", '"a"', '"b"', '":"', '"\\""', '"\\ud83d\\ude00"',
         '"\\ud83d"',
         " ", "\n", "1", "-0", "1.5", "1e9", "1e999", "-1e999", "NaN", "-Infinity", "true", "null",
         "9223372036854775807", "9223372036854775808", "-9223372036854775809", '"é"', '"\x7f"',
         '"\\u0000"', '{"a":1,"a":2}', '{"a" :1,"b":2}', '{"a":":"}']
    ),
    max_size=9,
).map("".join)  # fmt: skip


@given(JSONISH)
@example('{"a":1,"b":{"a":1,"a":2}}')
@example('{"a" :1,"a":2}')
@example('{"a"\n:1,"a":2}')
@example('{":":1,"a":":","b":"\\":"}')
@example('{"a" :1,"a":2,"b":":"}')
@example('{"\\u0061":1,"a":2}')
def test_it_reads_what_json_loads_reads_and_only_without_its_leniencies(text: str) -> None:
    data = text.encode()
    value, problems = parse_json(data, where="it", max_bytes=1 << 20)
    try:
        expected = reference(data)
    except ValueError:
        assert problems
    else:
        assert problems == ()
        assert repr(value) == repr(expected)


def test_a_key_given_twice_is_refused_by_name_at_any_depth() -> None:
    assert refused('{"a":1,"b":[{"x":1,"x":1}]}') == ("json-duplicate-key", "has the key 'x' twice")


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"a" :1,"a" :2}',
        '{"a" :1,"a":2}',
        '{"a":":","a":2}',
        '{"a":1,"\\u0061":2}',
    ],
)
def test_no_space_colon_or_escape_hides_a_key_given_twice(text: str) -> None:
    assert refused(text)[0] == "json-duplicate-key"


def test_a_key_given_twice_in_a_large_document_is_refused_without_a_slow_parse() -> None:
    padding = '"' + "x" * EXPLAINED_BYTES + '"'
    code, message = refused(f'{{"a":1,"a":{padding}}}', max_bytes=2 * EXPLAINED_BYTES)
    assert (code, message) == ("json-duplicate-key", "has a key twice")
    assert refused(f"[{padding},]", max_bytes=2 * EXPLAINED_BYTES)[0] == "json-syntax"


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_a_non_finite_literal_is_refused_with_the_way_it_is_written(literal: str) -> None:
    code, message = refused(f'{{"loss":{literal}}}')
    assert code == "json-number"
    assert f'"{literal}"' in message


@pytest.mark.parametrize("digits", ["9223372036854775808", "-9223372036854775809", "1" * 6_000])
def test_an_integer_beyond_64_bits_is_refused(digits: str) -> None:
    assert refused(f"[{digits}]")[0] == "json-number"


def test_integers_of_64_bits_are_read() -> None:
    assert parse(f"[{limits.INTEGER_MIN},{limits.INTEGER_MAX}]") == [
        limits.INTEGER_MIN,
        limits.INTEGER_MAX,
    ]


@pytest.mark.parametrize("digits", ["1e999", "-1e999", "1" + "0" * 400 + ".0"])
def test_a_number_too_large_for_a_double_is_refused(digits: str) -> None:
    assert refused(f'{{"a":[{digits}]}}')[0] == "json-number"


def test_nesting_is_allowed_to_the_bound_and_refused_beyond_it() -> None:
    bound = limits.JSON_DEPTH
    assert parse("[" * bound + "]" * bound)
    assert refused("[" * (bound + 1) + "]" * (bound + 1))[0] == "json-too-deep"
    assert refused('{"a":' * (bound + 1) + "1" + "}" * (bound + 1))[0] == "json-too-deep"


def test_nesting_that_would_overflow_a_stack_is_a_finding() -> None:
    assert refused("[" * 500_000)[0] == "json-too-deep"


def test_nesting_behind_another_fault_overflows_nothing_either() -> None:
    assert refused('["\\ud800",' + "[" * 100_000)[0] == "json-too-deep"


def test_nesting_is_bounded_as_the_caller_asks() -> None:
    assert refused('{"a":{"b":{}}}', max_depth=2)[0] == "json-too-deep"


def test_a_document_over_its_size_is_refused_with_both_sizes_before_it_is_parsed() -> None:
    code, message = refused(b"[" * 2_000, max_bytes=1_000)
    assert code == "json-too-large"
    assert "2,000" in message
    assert "1,000" in message


def test_a_document_of_too_many_values_is_refused_before_it_is_parsed() -> None:
    data = b"[" + b"1," * limits.JSON_VALUES + b"1]"
    code, message = refused(data, max_bytes=len(data))
    assert code == "json-too-large"
    assert "2,000,000 values" in message


def test_a_byte_order_mark_is_refused() -> None:
    assert refused(b"\xef\xbb\xbf{}")[0] == "json-encoding"


@pytest.mark.parametrize("data", [b'"\xff"', b"\xff\xfe{\x00}\x00", b'"\xed\xa0\x80"'])
def test_bytes_that_are_no_utf8_are_refused_with_their_place(data: bytes) -> None:
    code, message = refused(data)
    assert code == "json-encoding"
    assert "byte" in message


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\udc00":1}', '["\\ude00\\ud83d"]'])
def test_a_lone_surrogate_is_refused(text: str) -> None:
    assert refused(text)[0] == "json-encoding"


def test_a_pair_of_escaped_surrogates_is_one_character() -> None:
    assert parse('"\\ud83d\\ude00"') == "😀"


@pytest.mark.parametrize("text", ["", "{", "[1,]", "{'a':1}", "01", '"\x01"', "1 2", "// 1"])
def test_what_is_no_json_is_refused_with_line_and_column(text: str) -> None:
    code, message = refused(text)
    assert code == "json-syntax"
    assert "line 1" in message


@given(VALUES)
def test_key_marks_are_never_fewer_than_the_keys(value: Any) -> None:
    def keys(found: Any) -> int:
        children = found.values() if isinstance(found, dict) else found
        own = len(found) if isinstance(found, dict) else 0
        return own + sum(keys(child) for child in children if isinstance(child, dict | list))

    marks = count_key_marks(dump_json(value))
    assert marks is None or marks >= (keys(value) if isinstance(value, dict | list) else 0)


def test_a_document_is_written_sorted_unescaped_and_with_a_newline() -> None:
    assert dump_json({"b": "é", "a": 1}) == '{"a":1,"b":"é"}\n'.encode()


def test_nan_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        dump_json({"loss": math.nan})
