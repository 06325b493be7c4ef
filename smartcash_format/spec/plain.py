"""The user's own values as JSON: config, notes, metrics, hyperparameters. Never an exception.

Metadata never costs a checkpoint, so every value has a form and what a value itself raises
(an `items()`, an `item()`, a `__repr__`) counts as having no rule. Types of numpy and torch are
known by their names: nothing of them is imported here.

| value                                                    | JSON                                |
|----------------------------------------------------------|-------------------------------------|
| None, bool, string, finite float, integer within 64 bits | itself                              |
| NaN, infinities                                          | "NaN", "Infinity", "-Infinity"      |
| integer beyond 64 bits, Decimal, Fraction, UUID, complex | its text                            |
| lone surrogate in a string                               | its escape as text: `\\udc80`        |
| bytes, bytearray, memoryview                             | {"$base64": text}                   |
| datetime, date, time                                     | ISO 8601                            |
| timedelta                                                | seconds                             |
| Path and whatever has a path                             | its text                            |
| Enum member                                              | its value, if that is text, number, |
|                                                          | boolean or None; else "Class.NAME"  |
| mapping, whatever has items(), dataclass, Namespace,     | object                              |
| pydantic model                                           |                                     |
| list, tuple, deque, range, any other sequence            | array                               |
| set, frozenset                                           | array, sorted by its JSON text      |
| numpy or torch scalar                                    | the number                          |
| array or tensor of at most 1,000 elements                | nested arrays                       |
| dtype, device                                            | its text                            |
| anything else, cycles, what nests deeper than 48         | {"$repr": text of 200 characters}   |

Keys that are no strings become text: `null`, `true`, a number's digits, else the text of their
JSON form. Where two keys of one mapping become the same text, the mapping is stored as
{"$items": [[key, value], ...]}.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import reprlib
import types
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from pydantic import BaseModel, JsonValue, RootModel

from smartcash_format.spec import limits
from smartcash_format.spec.documents import dump_json, dump_lines
from smartcash_format.spec.spelling import number_to_json

# limits.JSON_DEPTH less what a document puts around a value: a sixth of it is never needed.
DEPTH: Final = 48
# Class weights and anchors are config; a data set is not.
ARRAY_ELEMENTS: Final = 1_000
# Enough to recognise what a config was about when only its keys are kept.
KEYS_KEPT: Final = 1_000
# Longer lists stop being read in a warning.
NAMES_SHOWN: Final = 10


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """A value as JSON, and one sentence for each thing that could not be kept as it was."""

    value: JsonValue
    warnings: tuple[str, ...] = ()


def to_json(value: object, *, name: str, max_bytes: int = limits.CONFIG_BYTES) -> Plain:
    """The JSON form of any value, at most `max_bytes` long as meta.json writes it.

    A longer one is kept as {"$keys": [...]}. `name` is what the warnings call it.
    """
    converter = _Converter(max_bytes)
    try:
        form = converter.form(value, name, 1)
        size = len(dump_lines({name: form}))
    except _TooLargeError:
        size = max_bytes + 1
    if size > max_bytes:
        kept = keys_of(value)
        return Plain(
            value=kept,
            warnings=(
                f"{name} takes more than {max_bytes:,} bytes as JSON: only its keys are stored",
            ),
        )
    return Plain(value=form, warnings=_without_rule(name, converter.without_rule))


def keys_of(value: object) -> JsonValue:
    """What is kept of a value that is too large: {"$keys": [...]}, or its repr if it has none."""
    try:
        pairs = pairs_of(value)
        if pairs is None:
            return {"$repr": _repr(value)}
        keys = [key_text(key)[: limits.REPR_CHARACTERS] for key, _ in pairs[:KEYS_KEPT]]
    except Exception as error:  # noqa: BLE001 - the user's own items(); see the module's promise
        return {"$repr": f"<{type(value).__name__} whose keys raised {type(error).__name__}>"}
    return {"$keys": list(keys)}


def pairs_of(value: object) -> list[tuple[object, object]] | None:
    """The keys and values of whatever is like a mapping; None of anything else."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, argparse.Namespace | types.SimpleNamespace):
        return list(vars(value).items())
    if isinstance(value, BaseModel) and not isinstance(value, RootModel):
        return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    items: Callable[[object], Iterable[tuple[object, object]]] | None
    items = getattr(type(value), "items", None)
    if callable(items) and not isinstance(value, type):
        return [(key, item) for key, item in items(value)]
    return None


def key_text(key: object) -> str:
    """A key as text, by the rule at the top."""
    if isinstance(key, str) and not isinstance(key, enum.Enum):
        return _text(str.__str__(key))
    try:
        form = _Converter(limits.NAME_BYTES).form(key, "", 1)
    except _TooLargeError:
        return _repr(key)
    return form if isinstance(form, str) else json.dumps(form, sort_keys=True, ensure_ascii=False)


def is_a(value: object, package: str, name: str) -> bool:
    """Whether the value's type is, or derives from, a package's type, known by its name."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == package
        for kind in type(value).__mro__
    )


def is_array(value: object) -> bool:
    """Whether this is a numpy array or a torch tensor."""
    return is_a(value, "numpy", "ndarray") or is_a(value, "torch", "Tensor")


def elements(value: Any) -> int:
    """How many elements an array or tensor has."""
    return math.prod(value.shape)


def shown(names: Collection[str]) -> str:
    """Some names in a sentence: the first ten, and how many more there are."""
    listed = ", ".join(list(names)[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return f"{listed} and {more} more" if more > 0 else listed


class _TooLargeError(Exception):
    """The value cannot fit its bound; raised before the whole of it was visited."""


class _Converter:
    """One conversion: what is open above (cycles), what had no rule, how much room is left."""

    def __init__(self, max_bytes: int) -> None:
        self.room = max_bytes
        self.open: set[int] = set()
        self.without_rule: list[str] = []

    def form(self, value: object, where: str, depth: int) -> JsonValue:
        self._spend(1)
        try:
            return self._form(value, where, depth)
        except _TooLargeError:
            raise
        except Exception:  # noqa: BLE001 - the user's own code; see the module's promise
            return self._repr(value, where)

    def _spend(self, size_bytes: int) -> None:
        # Every value takes a byte and every character one: shared lists of 10^12 nodes stop here.
        self.room -= size_bytes
        if self.room < 0:
            raise _TooLargeError

    def _repr(self, value: object, where: str) -> JsonValue:
        self.without_rule.append(where)
        text = _repr(value)
        self._spend(len(text))
        return {"$repr": text}

    def _form(self, value: object, where: str, depth: int) -> JsonValue:
        ruled, scalar = _scalar(value)
        if ruled:
            self._spend(len(scalar) if isinstance(scalar, str) else 0)
            return scalar
        if depth > DEPTH or id(value) in self.open:
            return self._repr(value, where)
        self.open.add(id(value))
        try:
            if type(value) in (list, tuple):
                return self._array(value, where, depth)
            return self._container(value, where, depth)
        finally:
            self.open.discard(id(value))

    def _container(self, value: object, where: str, depth: int) -> JsonValue:
        if isinstance(value, bytes | bytearray | memoryview):
            self._spend(len(value))
            return {"$base64": base64.b64encode(value).decode("ascii")}
        if is_array(value):
            if elements(value) > ARRAY_ELEMENTS:
                return self._repr(value, where)
            return self.form(value.tolist(), where, depth)  # type: ignore[attr-defined]
        pairs = pairs_of(value)
        if pairs is not None:
            return self._object(pairs, where, depth)
        if isinstance(value, AbstractSet):
            return sorted(self._array(value, where, depth), key=dump_json)
        if isinstance(value, Sequence | deque):
            return self._array(value, where, depth)
        return self._repr(value, where)

    def _array(self, values: Any, where: str, depth: int) -> list[JsonValue]:
        return [self.form(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(values)]

    def _object(self, pairs: list[tuple[object, object]], where: str, depth: int) -> JsonValue:
        keys = [key_text(key) for key, _ in pairs]
        if len(set(keys)) < len(keys):
            items = [(key, value) for key, value in pairs]
            return {"$items": self._array(items, where, depth + 1)}
        found: dict[str, JsonValue] = {}
        for key, (_, value) in zip(keys, pairs, strict=True):
            self._spend(len(key))
            found[key] = self.form(value, f"{where}.{key}", depth + 1)
        return found


def _scalar(value: object) -> tuple[bool, JsonValue]:
    """(True, form) of a value that holds no others; (False, None) of any other."""
    if value is None or value is True or value is False:
        return True, value
    if type(value) in (dict, list, tuple):
        return False, None
    if isinstance(value, enum.Enum):
        ruled, form = _scalar(value.value)
        simple = ruled and not isinstance(value.value, enum.Enum)
        return True, form if simple else f"{type(value).__name__}.{value.name}"
    if isinstance(value, str):
        return True, _text(str.__str__(value))
    if isinstance(value, int):
        integer = int.__index__(value)
        within = limits.INTEGER_MIN <= integer <= limits.INTEGER_MAX
        return True, integer if within else int.__repr__(integer)
    if isinstance(value, float):
        return True, number_to_json(float.__float__(value))
    return _named_scalar(value)


def _named_scalar(value: object) -> tuple[bool, JsonValue]:
    if isinstance(value, decimal.Decimal | fractions.Fraction | uuid.UUID | complex):
        return True, str(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return True, value.isoformat()
    if isinstance(value, datetime.timedelta):
        return True, value.total_seconds()
    if callable(fspath := getattr(type(value), "__fspath__", None)):
        path = fspath(value)
        return True, _text(path if isinstance(path, str) else path.decode("utf-8", "replace"))
    if is_a(value, "numpy", "generic") and not isinstance(value, bytes):
        return True, _numpy_scalar(value)
    if (
        is_a(value, "torch", "dtype")
        or is_a(value, "torch", "device")
        or is_a(value, "numpy", "dtype")
    ):
        return True, str(value)
    return False, None


def _numpy_scalar(value: Any) -> JsonValue:
    item = value.item()
    # A long double gives itself; bytes, tuples and objects inside a scalar are no numbers.
    ruled, form = _scalar(float(value) if type(item) is type(value) else item)
    return form if ruled else _text(str(value))


def _text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


def _repr(value: object) -> str:
    kind = type(value).__qualname__
    try:
        if is_array(value):
            text = f"<{kind} {value.dtype} {list(value.shape)}>"  # type: ignore[attr-defined]
        elif isinstance(value, list | tuple | dict | AbstractSet | deque):
            # Lists that share lists can have a repr of 10^12 characters.
            text = reprlib.repr(value)
        else:
            text = repr(value)
        return _text(text)[: limits.REPR_CHARACTERS]
    except Exception as error:  # noqa: BLE001 - the user's own __repr__; see the module's promise
        return f"<{kind} whose repr raised {type(error).__name__}>"[: limits.REPR_CHARACTERS]


def _without_rule(name: str, places: list[str]) -> tuple[str, ...]:
    if not places:
        return ()
    return (f"{name}: stored as text, having no JSON form: {shown(places)}",)
