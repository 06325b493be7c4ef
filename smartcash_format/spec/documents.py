"""Strict JSON: what every reader, in any language, reads to the same value (FORMAT.md, Documents).

`json.loads` accepts duplicate keys, NaN, a lone surrogate and integers of any length, and
overflows the stack on deep nesting; none of these passes here. Malformed bytes are findings, never
exceptions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from pydantic_core import from_json

from smartcash_format.spec import limits
from smartcash_format.spec.problems import Code, Problem

# 64-bit integers have at most 20 characters; int() of thousands of digits takes quadratic time.
INTEGER_CHARACTERS: Final = 20


class _Refused(Exception):
    def __init__(self, code: Code, message: str) -> None:
        self.code: Code = code
        self.message = message


def parse_json(
    data: bytes, *, where: str, max_bytes: int, max_depth: int = limits.JSON_DEPTH
) -> tuple[Any, tuple[Problem, ...]]:
    """The value of a strict JSON document and no problems, or None and what is wrong with it.

    `where` names the document in the problems. The nesting is bounded before Python recurses.
    """
    try:
        return _parse(data, max_bytes, max_depth), ()
    except _Refused as refused:
        return None, (Problem(code=refused.code, where=where, message=refused.message),)


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


def _parse(data: bytes, max_bytes: int, max_depth: int) -> Any:
    if len(data) > max_bytes:
        raise _Refused(
            "json-too-large",
            f"has {len(data):,} bytes; at most {max_bytes:,} are allowed",
        )
    if data.startswith(b"\xef\xbb\xbf"):
        raise _Refused("json-encoding", "starts with a byte order mark; it must be plain UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Refused("json-encoding", f"is not UTF-8 at byte {error.start}") from None
    _bound_nesting(data, max_depth)
    try:
        value = json.loads(
            text, object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_integer,
            parse_float=_float,
        )  # fmt: skip
    except json.JSONDecodeError as error:
        raise _Refused(
            "json-syntax",
            f"is not JSON: {error.msg} (line {error.lineno}, column {error.colno})",
        ) from None
    except RecursionError:
        raise _Refused("json-too-deep", f"nests deeper than {max_depth} levels") from None
    _check_tree(value, max_depth, escapes=b"\\u" in data or b"\\U" in data)
    return value


def _bound_nesting(data: bytes, max_depth: int) -> None:
    # jiter parses in Rust with a recursion bound of its own and no Python stack; what it calls
    # too deep must not reach json.loads. Its other complaints are worded better by json.loads.
    if data.count(b"[") + data.count(b"{") <= max_depth:
        return
    try:
        from_json(data)
    except ValueError as error:
        if "recursion" in str(error):
            raise _Refused("json-too-deep", f"nests deeper than {max_depth} levels") from None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused("json-duplicate-key", f"has the key {key[:80]!r} twice")
            seen.add(key)
    return found


def _constant(name: str) -> NoReturn:
    raise _Refused("json-number", f'has the literal {name}; it is written as the string "{name}"')


def _integer(digits: str) -> int:
    if len(digits) <= INTEGER_CHARACTERS:
        value = int(digits)
        if limits.INTEGER_MIN <= value <= limits.INTEGER_MAX:
            return value
    raise _Refused("json-number", f"has an integer beyond 64 bits: {digits[:24]}")


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _Refused("json-number", f"has a number too large for a double: {digits[:24]}")
    return value


def _check_tree(value: Any, max_depth: int, *, escapes: bool) -> None:
    level = [value] if isinstance(value, dict | list) else []
    depth = 0
    while level:
        depth += 1
        if depth > max_depth:
            raise _Refused("json-too-deep", f"nests deeper than {max_depth} levels")
        level = [child for container in level for child in _containers(container)]
    # Only an escape can smuggle a lone surrogate into a document that is valid UTF-8.
    if escapes:
        _check_surrogates(value)


def _containers(container: Any) -> Iterator[Any]:
    children = container.values() if isinstance(container, dict) else container
    return (child for child in children if isinstance(child, dict | list))


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise _Refused("json-encoding", "has a lone surrogate in a string") from None
