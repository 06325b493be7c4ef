"""Values that a notebook shows as HTML, drawn by whoever has registered how.

The rooms that hold the values lie below the one that draws them, so the drawing comes to them: view
registers itself here (decision 0027).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_drawn_by: dict[type, Callable[[Any], str]] = {}


def draw_with(kind: type, draw: Callable[[Any], str]) -> None:
    """From now on values of this very type are shown as the HTML that `draw` gives."""
    _drawn_by[kind] = draw


class Displayed:
    """A value that notebooks show as HTML; None, and so as text, where nobody draws it."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        draw = _drawn_by.get(type(self))
        return None if draw is None else draw(self)
