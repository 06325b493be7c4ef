"""A diff as text for the terminal: the verdict on the weights first, then what changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.text import Text
from rich.tree import Tree

from smartcash_format.spec.diff import Diff, FieldChange, MetricChange, WeightsDiff
from smartcash_format.view import words

NAMES_SHOWN: Final = 12
_VERDICTS: Final = {
    "same": ("the same weights", "green"),
    "different": ("other weights", "yellow"),
    "unknown": ("digests of different algorithms: it cannot be told", "magenta"),
}


def comparison(found: Diff, *, before: str, after: str) -> Tree:
    """The tree of a diff."""
    text, style = _VERDICTS[found.same_weights]
    tree = Tree(Text.assemble((text, f"bold {style}")))
    tree.add(Text(f"- {words.harmless(before)}"))
    tree.add(Text(f"+ {words.harmless(after)}"))
    metrics = [change for change in found.metrics if change.differs]
    if metrics:
        branch = tree.add(Text("metrics"))
        for metric in metrics:
            branch.add(Text(_metric(metric)))
    for title, changes in (("metadata", found.fields), ("config", found.config)):
        if changes:
            branch = tree.add(Text(title))
            for change in changes[: 5 * NAMES_SHOWN]:
                branch.add(Text(_field(change)))
    for weights in found.weights:
        _weights(tree, weights)
    return tree


def _metric(change: MetricChange) -> str:
    before = "-" if change.before is None else words.number(change.before)
    after = "-" if change.after is None else words.number(change.after)
    delta = "" if change.delta is None else f"  ({change.delta:+.4g})"
    return f"{words.harmless(change.name)}  {before} -> {after}{delta}"


def _field(change: FieldChange) -> str:
    path = words.harmless(change.path)
    match change.kind:
        case "added":
            return f"+ {path}  {_value(change.after)}"
        case "removed":
            return f"- {path}  {_value(change.before)}"
        case _:
            return f"~ {path}  {_value(change.before)} -> {_value(change.after)}"


def _value(value: Any) -> str:
    return words.harmless(str(value), 60)


def _weights(tree: Tree, weights: WeightsDiff) -> None:
    branch = tree.add(
        Text(f"weights {words.harmless(weights.name)}: {weights.unchanged} tensors unchanged")
    )
    for title, names in (
        ("added", weights.added),
        ("removed", weights.removed),
        ("renamed", [f"{each.name} -> {each.new_name}" for each in weights.renamed]),
        ("reshaped", [f"{c.name} {c.before.shape} -> {c.after.shape}" for c in weights.reshaped]),
        ("re-typed", [f"{c.name} {c.before.dtype} -> {c.after.dtype}" for c in weights.retyped]),
        ("changed", [change.name for change in weights.changed]),
        ("unknown", weights.unknown),
    ):
        _names(branch, title, names)


def _names(tree: Tree, title: str, names: Sequence[str]) -> None:
    if not names:
        return
    branch = tree.add(Text(f"{title} ({len(names)})"))
    for name in _first(names):
        branch.add(Text(name))


def _first(names: Sequence[str]) -> Iterable[str]:
    yield from (words.harmless(name) for name in names[:NAMES_SHOWN])
    if len(names) > NAMES_SHOWN:
        yield f"... {len(names) - NAMES_SHOWN} more"
