"""Values as short texts for the eye: sizes, ages, numbers, and foreign text made harmless."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Final

from smartcash_format.spec.harmless import harmless as harmless

_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
# How many of the next smaller unit make one.
_AGES: Final = ((60, "s"), (60, "min"), (24, "h"), (365, "d"))
# From here a number of elements is no longer a model's, and may be too large for a float.
_COUNTLESS: Final = 10**18


def short_roots(roots: Collection[str]) -> dict[str, str]:
    """Each of the roots without the directories that they have in common; one alone by its name."""
    if len(roots) < 2:
        return {root: os.path.basename(root) for root in roots}
    try:
        common = os.path.commonpath(roots)
    except ValueError:  # some are relative, some are not
        return {root: root for root in roots}
    return {root: os.path.relpath(root, common) for root in roots}


def size(size_bytes: int) -> str:
    """A size in units of 1,000 with three digits: `217 MB`."""
    value = float(size_bytes)
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    digits = 0 if unit == "B" or value >= 99.95 else 1
    return f"{value:.{digits}f} {unit}"


def count(number: int) -> str:
    """A number of parameters: `17.6 M`."""
    if number >= _COUNTLESS:
        return "over 1000 P"
    value = float(number)
    for unit in ("", " k", " M", " G", " T"):
        if value < 999.5:
            return f"{value:.0f}{unit}" if not unit or value >= 99.95 else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.0f} P"


def several(number: int, what: str) -> str:
    """`1 checkpoint`, `2 checkpoints`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def age(saved_at: datetime, now: datetime) -> str:
    """How long ago, such as `1.5 h` or `12 d`; a moment ahead of `now` is `0 s`."""
    value = max(0.0, (now - saved_at).total_seconds())
    for length, unit in _AGES:
        shown = f"{value:.0f}" if value >= 9.95 or unit == "s" else f"{value:.1f}"
        if float(shown) < length:
            return f"{shown.removesuffix('.0')} {unit}"
        value /= length
    return f"{value:.1f}".removesuffix(".0") + " y"


def shape(lengths: Iterable[int]) -> str:
    """`64x3x7x7`."""
    return "x".join(map(str, lengths)) or "scalar"


def number(value: float) -> str:
    """A metric in at most six digits; NaN and infinities by name."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6):
        return f"{int(value)}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.3e}"
