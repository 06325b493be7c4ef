"""Metrics as the format keeps them: flat names to numbers, and what is no number in the notes."""

from __future__ import annotations

import dataclasses
import decimal
import fractions
from collections.abc import Mapping
from typing import Any, Final

from pydantic import JsonValue

from smartcash_format.spec import limits
from smartcash_format.spec.plain import (
    DEPTH,
    Plain,
    elements,
    is_a,
    is_array,
    key_text,
    pairs_of,
    shown,
    to_json,
)

# Ten times what metrics may hold: dictionaries that share dictionaries can have 10^12 leaves.
LEAVES: Final = 10 * limits.METRICS
# Where metrics that are no numbers go, inside notes.
METRICS_NOTE: Final = "metrics"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Metrics by flat name: the numbers, and what is none as JSON; one sentence if any is none."""

    numbers: dict[str, int | float]
    others: dict[str, JsonValue]
    warnings: tuple[str, ...] = ()


def split_metrics(metrics: object) -> Metrics:
    """Nested metrics flattened with `/`, divided into finite and non-finite numbers and the rest.

    A number is an int or float (no bool) within meta.json's range, a Decimal or Fraction, a numpy
    or torch scalar and any array or tensor of one element. The rest is everything else, and what
    has a name that is taken, longer than 256 characters or beyond the 1,000th.
    """
    numbers: dict[str, int | float] = {}
    others: dict[str, object] = {}
    for name, value in _flat(metrics):
        number = _number(value)
        if (
            number is None
            or name in numbers
            or len(name) > limits.SHORT_TEXT
            or len(numbers) == limits.METRICS
        ):
            others[_free(name, others)] = value
        else:
            numbers[name] = number
    kept = to_json(others, name="metrics", max_bytes=limits.NOTES_BYTES // 2)
    assert isinstance(kept.value, dict)
    warnings: tuple[str, ...] = ()
    if others:
        why = "being no number or having no free name of their own"
        warnings = (f"metrics stored in notes[{METRICS_NOTE!r}], {why}: {shown(others)}",)
    return Metrics(numbers=numbers, others=kept.value, warnings=warnings)


def notes_to_json(notes: object, others: Mapping[str, JsonValue]) -> Plain:
    """The user's notes as a JSON object, with metrics that are no numbers under "metrics".

    Where the user has such a note, they are under "$metrics". Notes that are no mapping are kept
    under "value".
    """
    plain = to_json(notes, name="notes", max_bytes=limits.NOTES_BYTES // 2)
    value: dict[str, JsonValue] = {}
    if isinstance(plain.value, dict):
        value = dict(plain.value)
    elif plain.value is not None:
        value = {"value": plain.value}
    if others:
        value[f"${METRICS_NOTE}" if METRICS_NOTE in value else METRICS_NOTE] = dict(others)
    return Plain(value=value, warnings=plain.warnings)


def _flat(metrics: object) -> list[tuple[str, object]]:
    """(name joined with `/`, value) of every leaf; what nests too deep or in a cycle is a leaf."""
    found: list[tuple[str, object]] = []

    def walk(value: object, name: str, above: tuple[int, ...]) -> None:
        leaf = id(value) in above or len(above) == DEPTH or len(found) >= LEAVES
        try:
            pairs = None if leaf else pairs_of(value)
        except Exception:  # noqa: BLE001 - the user's own items(); see the module's promise
            pairs = None
        if pairs is None:
            found.append((name or "value", value))
            return
        for key, item in pairs:
            walk(
                item,
                f"{name}/{key_text(key)}" if name else key_text(key),
                (*above, id(value)),
            )

    if metrics is not None:
        walk(metrics, "", ())
    return found


def _number(value: Any) -> int | float | None:
    try:
        one = is_a(value, "numpy", "generic") or (is_array(value) and elements(value) == 1)
        value = value.item() if one else value
        # A long double gives itself.
        value = float(value) if is_a(value, "numpy", "floating") else value
        if isinstance(value, decimal.Decimal | fractions.Fraction):
            return float(value)
    except Exception:  # noqa: BLE001 - the user's own tensor subclass; see the module's promise
        return None
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    integer = int.__index__(value)
    return integer if limits.INTEGER_MIN <= integer <= limits.INTEGER_MAX else None


def _free(name: str, taken: Mapping[str, object]) -> str:
    while name in taken:
        name += "'"
    return name
