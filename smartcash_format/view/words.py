"""Values as short texts for the eye: sizes, ages, numbers, and foreign text made harmless."""

from __future__ import annotations

import math
import unicodedata
from datetime import datetime
from typing import Final

# Directions, joiners and line separators change how the text beside them reads.
_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_AGES: Final = ((86_400 * 365, "y"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def harmless(text: str, limit: int = 1_000) -> str:
    """Foreign text with every control, direction and unassigned character shown as its escape."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    if cut.isascii() and cut.isprintable():
        return cut
    return "".join(_escaped(character) for character in cut)


def _escaped(character: str) -> str:
    if unicodedata.category(character) in _HIDDEN_CATEGORIES:
        return character.encode("unicode_escape").decode("ascii")
    return character


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
    value = float(number)
    for unit in ("", " k", " M", " G", " T"):
        if value < 999.5:
            return f"{value:.0f}{unit}" if not unit or value >= 99.95 else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.0f} P"


def age(saved_at: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that fits; a moment ahead of `now` is `0 s`."""
    seconds = max(0.0, (now - saved_at).total_seconds())
    for length, unit in _AGES:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "0 s"


def number(value: float) -> str:
    """A metric in at most six digits; NaN and infinities by name."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6):
        return f"{int(value)}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.3e}"
