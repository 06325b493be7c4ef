"""Foreign text that no terminal, log or page obeys, and that reads as it is written."""

from __future__ import annotations

import unicodedata
from typing import Final

# Directions, joiners and line separators change how the text beside them reads.
_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def harmless(text: str, limit: int | None = 1_000) -> str:
    """Foreign text with every control, direction and unassigned character shown as its escape.

    What is longer than `limit` characters ends in "…"; None cuts nothing.
    """
    cut = text if limit is None or len(text) <= limit else text[: limit - 1] + "…"
    if cut.isascii() and cut.isprintable():
        return cut
    return "".join(_escaped(character) for character in cut)


def _escaped(character: str) -> str:
    if unicodedata.category(character) in _HIDDEN_CATEGORIES:
        return character.encode("unicode_escape").decode("ascii")
    return character
