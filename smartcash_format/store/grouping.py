"""Tensors taken together as layers: as many rows as a person looks over, whatever the model."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Final

# What a person can look over.
LAYERS: Final = 36

_Path = tuple[str, ...]
_DIGITS: Final = re.compile(r"[0-9]+")


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """The tensors of each layer, at most LAYERS of them, in the order in which people count.

    A layer is a module; where there are too many, the modules inside one are taken together, and
    of numbered ones several that follow one another: `blocks.0-7`.
    """
    tree = _Tree(names)
    layers: dict[str, list[str]] = {}
    groups = sorted(_divided(tree), key=_natural)
    numbered = [path for path in groups if path in tree.children and tree.is_numbered(path)]
    room = LAYERS - len(groups) + len(numbered)
    for path in groups:
        if path in numbered and room // len(numbered) > 1:
            layers |= _ranges(path, tree, room // len(numbered))
        else:
            layers[_label(path) or "all"] = tree.names[path]
    return _with_a_rest(layers)


class _Tree:
    """Modules by their path: what each holds, and its tensors, those of its children included.

    Where a module has tensors of its own beside its children, these are a child named "".
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names: defaultdict[_Path, list[str]] = defaultdict(list)
        children: defaultdict[_Path, set[_Path]] = defaultdict(set)
        for name in sorted(names, key=lambda name: _natural(tuple(name.split(".")))):
            *parts, last = name.split(".")
            path = (*parts, "") if parts else (last,)
            for depth in range(len(path) + 1):
                self.names[path[:depth]].append(name)
                if depth:
                    children[path[: depth - 1]].add(path[:depth])
        self.children: Mapping[_Path, set[_Path]] = children

    def is_numbered(self, path: _Path) -> bool:
        """Whether what it holds is counted, as the blocks of a network are."""
        return all(child[-1].isdecimal() for child in self.children[path])


def _with_a_rest(layers: Mapping[str, list[str]]) -> dict[str, list[str]]:
    if len(layers) <= LAYERS:
        return dict(layers)
    items = list(layers.items())
    rest = [names for _, names in items[LAYERS - 1 :]]
    return dict(items[: LAYERS - 1]) | {f"… {len(rest)} more": list(chain.from_iterable(rest))}


def _divided(tree: _Tree) -> set[_Path]:
    """Modules that together hold every tensor, divided as long as they are few enough."""
    groups: set[_Path] = {()} if tree.names else set()
    while True:
        for family in _families(groups, tree):
            inside = set[_Path]().union(*(tree.children[path] for path in family))
            if len(groups) - len(family) + len(inside) <= LAYERS:
                groups = (groups - family) | inside
                break
        else:
            break
    if groups == {()} and not tree.is_numbered(()):
        # Too many at the top already.
        return tree.children[()]
    return groups


def _families(groups: set[_Path], tree: _Tree) -> list[set[_Path]]:
    """What may be divided next, the largest first: those of like names together, or none."""
    alike: defaultdict[_Path, set[_Path]] = defaultdict(set)
    for path in groups:
        if path in tree.children:
            alike[(*path[:-1], _DIGITS.sub("", path[-1])) if path else ()].add(path)

    def size(family: set[_Path]) -> tuple[int, list[_Path]]:
        return -sum(len(tree.names[path]) for path in family), sorted(family)

    return sorted(alike.values(), key=size)


def _ranges(path: _Path, tree: _Tree, room: int) -> dict[str, list[str]]:
    children = sorted(tree.children[path], key=_natural)
    each = math.ceil(len(children) / room)
    found = {}
    for start in range(0, len(children), each):
        some = children[start : start + each]
        label = _label(some[0]) + (f"-{some[-1][-1]}" if len(some) > 1 else "")
        found[label] = [name for child in some for name in tree.names[child]]
    return found


def _label(path: _Path) -> str:
    return ".".join(part for part in path if part)


def _natural(path: _Path) -> list[tuple[int, str]]:
    """tensors.json has names in the order of their bytes; people count layers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in path]
