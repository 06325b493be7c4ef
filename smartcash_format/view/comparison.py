"""A diff as text for the terminal: the verdict on the weights first, then what changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from rich.text import Text
from rich.tree import Tree

from smartcash_format.spec.diff import Diff, FieldChange, MetricChange, TensorChange, WeightsDiff
from smartcash_format.view import words
from smartcash_format.view.terminal import SCREEN, Room

VERDICTS: Final = {
    "same": ("the same weights", "green"),
    "different": ("other weights", "yellow"),
    "unknown": ("digests of different algorithms: it cannot be told", "magenta"),
}


def comparison(found: Diff, *, before: str, after: str, room: Room = SCREEN) -> Tree:
    """The tree of a diff; what there is no room for is counted."""
    text, style = VERDICTS[found.same_weights]
    tree = Tree(Text.assemble((text, f"bold {style}")))
    tree.add(Text(f"- {words.harmless(before, None)}"))
    tree.add(Text(f"+ {words.harmless(after, None)}"))
    _add(tree, "metrics", [_metric(each) for each in found.metrics if each.differs], room.lines)
    for title, changes in (("metadata", found.fields), ("config", found.config)):
        _add(tree, title, [_field(change, room) for change in changes], room.lines)
    for weights in found.weights:
        _weights(tree, weights, room)
    return tree


def _add(tree: Tree, title: str, lines: Sequence[str], most: int | None) -> None:
    """A branch of lines, those beyond the most counted; nothing where there is no line."""
    if not lines:
        return
    branch = tree.add(Text(title))
    for line in lines[:most]:
        branch.add(Text(line))
    if most is not None and len(lines) > most:
        branch.add(Text(f"... {len(lines) - most} more: diff --format json", style="dim"))


def _metric(change: MetricChange) -> str:
    before = "-" if change.before is None else words.number(change.before)
    after = "-" if change.after is None else words.number(change.after)
    delta = "" if change.delta is None else f"  ({change.delta:+.4g})"
    return f"{words.harmless(change.name, None)}  {before} -> {after}{delta}"


def _field(change: FieldChange, room: Room) -> str:
    path = words.harmless(change.path, None)
    before, after = (
        words.harmless(_value(value), room.characters) for value in (change.before, change.after)
    )
    match change.kind:
        case "added":
            return f"+ {path}  {after}"
        case "removed":
            return f"- {path}  {before}"
        case _:
            return f"~ {path}  {before} -> {after}"


def _weights(tree: Tree, weights: WeightsDiff, room: Room) -> None:
    name = words.harmless(weights.name, None)
    branch = tree.add(Text(f"weights {name}: {weights.unchanged} tensors unchanged"))
    for title, names in (
        ("added", weights.added),
        ("removed", weights.removed),
        ("renamed", [f"{each.name} -> {each.new_name}" for each in weights.renamed]),
        ("reshaped", [f"{change.name} {_shapes(change)}" for change in weights.reshaped]),
        ("re-typed", [f"{c.name} {c.before.dtype} -> {c.after.dtype}" for c in weights.retyped]),
        ("changed", [change.name for change in weights.changed]),
        ("unknown", weights.unknown),
    ):
        lines = [words.harmless(name, None) for name in names]
        _add(branch, f"{title} ({len(names)})", lines, room.names)


def _shapes(change: TensorChange) -> str:
    return f"{words.shape(change.before.shape)} -> {words.shape(change.after.shape)}"


def _value(value: object) -> str:
    """A text as it is, anything else as the document spells it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
