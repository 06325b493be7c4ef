"""Strict JSON: what every reader, in any language, reads to the same value (FORMAT.md, Documents).

`json.loads` accepts duplicate keys, NaN, a lone surrogate and integers of any length, and
overflows the stack on deep nesting; none of these passes here. Malformed bytes are findings, never
exceptions.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from itertools import chain, compress, repeat
from operator import is_
from typing import Any, Final, NoReturn, TypeVar

from pydantic_core import from_json

from smartcash_format.spec import limits
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.refusal import Refused, shown, too_large

# 64-bit integers have at most 20 characters; int() of thousands of digits takes quadratic time.
INTEGER_CHARACTERS: Final = 20
# json.loads names a fault better and takes seconds for the largest documents: up to this size.
EXPLAINED_BYTES: Final = limits.META_BYTES
# Of valid JSON each string, escaped quotes included.
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"')


T = TypeVar("T")


def parse_json(
    data: bytes, *, where: str, max_bytes: int, max_depth: int = limits.JSON_DEPTH
) -> tuple[Any, tuple[Problem, ...]]:
    """The value of a strict JSON document and no problems, or None and what is wrong with it.

    `where` names the document in the problems. The nesting is bounded before Python recurses.
    """
    try:
        return _parse(data, max_bytes, max_depth), ()
    except Refused as refused:
        return None, (refused.problem(where),)


def dump_json(value: object, *, indent: int | None = None) -> bytes:
    """The bytes of a strict JSON document: UTF-8, sorted keys, no NaN, a newline at the end."""
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(
        value,
        sort_keys=True,
        ensure_ascii=False,
        allow_nan=False,
        indent=indent,
        separators=separators,
    )
    return text.encode("utf-8") + b"\n"


def dump_lines(document: Mapping[str, object]) -> bytes:
    """The same with a line for each key, and for each key of an object in it; compact below.

    People open such a document, and `diff` shows what changed in it; each byte of it is read in
    every listing.
    """
    lines = [f" {_compact(key)}: {_lines(document[key])}" for key in sorted(document)]
    return f"{{\n{_JOINT.join(lines)}\n}}\n".encode() if lines else b"{}\n"


def has_too_many_values(data: bytes) -> bool:
    """Whether parsing these bytes could allocate more values than any document has."""
    return (
        len(data) > limits.JSON_VALUES
        and data.count(b",") + data.count(b"[") + data.count(b"{") > limits.JSON_VALUES
    )


def count_key_marks(data: bytes) -> int | None:
    """At least the number of keys in a JSON document, or None where it takes a parser to know.

    Without space before a colon each key ends in `":`. A string may hold that too, so the count may
    be too large, never too small: a document with as many different keys has none twice.
    """
    body = data.strip()
    # One byte is looked for much faster than two, and a manifest has no space at all.
    if any(space in body and space + b":" in body for space in (b" ", b"\t", b"\n", b"\r")):
        return None
    return body.count(b'":')


_compact: Final = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
).encode
_JOINT: Final = ",\n"


def _lines(value: object) -> str:
    if not isinstance(value, dict) or not value:
        return _compact(value)
    lines = [f"  {_compact(key)}: {_compact(value[key])}" for key in sorted(value)]
    return f"{{\n{_JOINT.join(lines)}\n }}"


def _parse(data: bytes, max_bytes: int, max_depth: int) -> Any:
    if len(data) > max_bytes:
        raise too_large(len(data), max_bytes)
    if has_too_many_values(data):
        raise Refused("json-too-large", f"has more than {limits.JSON_VALUES:,} values")
    if data.startswith(b"\xef\xbb\xbf"):
        message = "starts with a byte order mark; it must be plain UTF-8"
        raise Refused("json-encoding", message, found="a byte order mark")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        odd = f"the byte 0x{data[error.start]:02x} at {error.start}"
        raise Refused("json-encoding", f"is not UTF-8 at byte {error.start}", found=odd) from None
    try:
        # Parsed in Rust: a third of json.loads's time, and no Python stack to overflow.
        value = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise _explained(data, str(error), max_depth) from None
    keys = _count_keys(value, max_depth)
    if count_key_marks(data) != keys and _STRING.sub(b"", data).count(b":") != keys:
        raise _twice(data)
    return value


def _explained(data: bytes, complaint: str, max_depth: int) -> Refused:
    """What keeps the document from being JSON, in the words and codes of this package."""
    if "recursion" in complaint:
        return Refused("json-too-deep", f"nests deeper than {max_depth} levels")
    if len(data) <= EXPLAINED_BYTES:
        try:
            json.dumps(_parse_slowly(data), ensure_ascii=False).encode("utf-8")
        except Refused as refused:
            return refused
        except json.JSONDecodeError as error:
            return Refused(
                "json-syntax",
                f"is not JSON: {error.msg} (line {error.lineno}, column {error.colno})",
                found=shown(error.doc[error.pos : error.pos + 20])
                if error.doc[error.pos :]
                else "its end",
            )
        except RecursionError:
            return Refused("json-too-deep", f"nests deeper than {max_depth} levels")
        except UnicodeEncodeError:
            return Refused(
                "json-encoding", "has a lone surrogate in a string", found="a lone surrogate"
            )
    return Refused("json-syntax", f"is not JSON: {complaint}")


def _twice(data: bytes) -> Refused:
    """Which key the document has twice."""
    if len(data) <= EXPLAINED_BYTES:
        try:
            _parse_slowly(data)
        except Refused as refused:
            return refused
    return Refused("json-duplicate-key", "has a key twice")


def _parse_slowly(data: bytes) -> Any:
    return json.loads(
        data.decode("utf-8"),
        object_pairs_hook=_pairs,
        parse_constant=_constant,
        parse_int=_integer,
        parse_float=_float,
    )


def _count_keys(value: Any, max_depth: int) -> int:
    """The number of keys in the whole tree, whose depth and numbers are within bounds.

    Level by level and by whole lists: a manifest of 704 tensors has ten thousand values.
    """
    level = [value]
    keys = 0
    for _ in range(max_depth + 1):
        kinds = [*map(type, level)]
        present = {*kinds}
        if int in present:
            _check_integers(_of_kind(int, level, kinds))
        if float in present:
            _check_floats(_of_kind(float, level, kinds))
        objects = _of_kind(dict, level, kinds) if dict in present else []
        arrays = _of_kind(list, level, kinds) if list in present else []
        if not objects and not arrays:
            return keys
        keys += sum(map(len, objects))
        level = [*chain.from_iterable(map(dict.values, objects)), *chain.from_iterable(arrays)]
    raise Refused("json-too-deep", f"nests deeper than {max_depth} levels")


def _of_kind(kind: type[T], level: list[Any], kinds: list[type]) -> list[T]:
    return [*compress(level, map(is_, kinds, repeat(kind)))]


def _check_integers(integers: list[int]) -> None:
    for integer in (min(integers), max(integers)):
        if not limits.INTEGER_MIN <= integer <= limits.INTEGER_MAX:
            raise _beyond_64_bits(str(integer))


def _check_floats(floats: list[float]) -> None:
    if max(floats) == math.inf or min(floats) == -math.inf:
        raise Refused("json-number", "has a number too large for a double", found="an infinity")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Refused(
                    "json-duplicate-key", f"has the key {key[:80]!r} twice", found=shown(key)
                )
            seen.add(key)
    return found


def _constant(name: str) -> NoReturn:
    message = f'has the literal {name}; it is written as the string "{name}"'
    raise Refused("json-number", message, found=name)


def _integer(digits: str) -> int:
    if len(digits) <= INTEGER_CHARACTERS:
        value = int(digits)
        if limits.INTEGER_MIN <= value <= limits.INTEGER_MAX:
            return value
    raise _beyond_64_bits(digits)


def _beyond_64_bits(digits: str) -> Refused:
    message = f"has an integer beyond 64 bits: {digits[:24]}"
    return Refused("json-number", message, found=digits[:24])


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        message = f"has a number too large for a double: {digits[:24]}"
        raise Refused("json-number", message, found=digits[:24])
    return value
