"""Rectangles whose areas are sizes: Bruls, Huizing and van Wijk 2000, squarified treemaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Rectangle(NamedTuple):
    """In the units of the whole: left, top, width, height."""

    x: float
    y: float
    width: float
    height: float


def squarified(sizes: Sequence[float], width: float, height: float) -> list[Rectangle]:
    """A rectangle for each size, in their order, that together fill the whole.

    Sizes are positive and should be in descending order: then the rectangles are nearest to
    squares.
    """
    scale = width * height / sum(sizes) if sizes else 0.0
    areas = [size * scale for size in sizes]
    found: list[Rectangle] = []
    x = y = 0.0
    while len(found) < len(areas):
        side = min(width, height)
        row = _row(areas[len(found) :], side)
        thick = sum(row) / side if side else 0.0
        at = 0.0
        for area in row:
            length = area / thick if thick else 0.0
            if width >= height:
                found.append(Rectangle(x, y + at, thick, length))
            else:
                found.append(Rectangle(x + at, y, length, thick))
            at += length
        if width >= height:
            x, width = x + thick, width - thick
        else:
            y, height = y + thick, height - thick
    return found


def _row(areas: Sequence[float], side: float) -> Sequence[float]:
    """As many of the first areas as lie side by side without getting narrower."""
    count = 1
    while count < len(areas) and _worst(areas[: count + 1], side) <= _worst(areas[:count], side):
        count += 1
    return areas[:count]


def _worst(row: Sequence[float], side: float) -> float:
    """The largest ratio of length and width in a row along this side."""
    total = sum(row)
    if not total or not side:
        return 0.0
    return max(side * side * max(row) / (total * total), total * total / (side * side * min(row)))
