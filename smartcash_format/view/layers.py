"""Tensors as a tree of modules; layers that repeat stand once, with how often."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from rich.text import Text
from rich.tree import Tree

from smartcash_format.spec.tensors import TensorRecord
from smartcash_format.view import words

# No model nests deeper; the rest of a longer name stays one name.
_LEVELS: Final = 32


@dataclass(slots=True)
class _Module:
    """A module's own tensors, and its children by name."""

    tensors: dict[str, TensorRecord] = field(default_factory=dict)
    children: dict[str, _Module] = field(default_factory=dict)

    def elements(self) -> int:
        own = sum(math.prod(record.shape) for record in self.tensors.values())
        return own + sum(child.elements() for child in self.children.values())

    def count(self) -> int:
        return len(self.tensors) + sum(child.count() for child in self.children.values())

    def form(self) -> object:
        """What two modules have in common when they are the same but for their values."""
        own = tuple(sorted((n, r.dtype, tuple(r.shape)) for n, r in self.tensors.items()))
        return own, tuple((name, child.form()) for name, child in self.children.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """A module as it is shown: its children by the names that one heading stands for."""

    module: _Module
    children: tuple[tuple[list[str], _Shown], ...]


def layer_tree(
    weight_set: str, tensors: Mapping[str, TensorRecord], *, lines: int | None = None
) -> Tree:
    """The tree of one weight set, as deep as `lines` lines allow; None shows every tensor."""
    root = _Module()
    for name, record in tensors.items():
        *path, leaf = name.split(".", _LEVELS)
        module = root
        for part in path:
            module = module.children.setdefault(part, _Module())
        module.tensors[leaf] = record
    elements = words.count(root.elements())
    tree = Tree(Text(f"{words.harmless(weight_set, None)}  {elements} elements", style="bold"))
    whole = _collapsed(root)
    _grow(tree, whole, _LEVELS + 1 if lines is None else _depth(whole, lines))
    return tree


def _collapsed(module: _Module) -> _Shown:
    """Neighbours of one form under one heading."""
    groups: list[tuple[list[str], _Module, object]] = []
    # The manifest has its names in the order of their letters, 10 before 2.
    for name, child in sorted(module.children.items(), key=_by_number):
        form = child.form()
        if groups and groups[-1][2] == form:
            groups[-1][0].append(name)
        else:
            groups.append(([name], child, form))
    return _Shown(
        module=module, children=tuple((names, _collapsed(child)) for names, child, _ in groups)
    )


def _by_number(item: tuple[str, _Module]) -> tuple[bool, int, str]:
    name = item[0]
    is_number = name.isascii() and name.isdigit()
    return not is_number, int(name) if is_number else 0, name


def _depth(shown: _Shown, lines: int) -> int:
    """The deepest level down to which all of it takes at most so many lines, 1 at least."""
    depth, level, taken = 0, [shown], 0
    while level:
        taken += sum(len(each.module.tensors) + len(each.children) for each in level)
        if taken > lines:
            break
        depth += 1
        level = [child for each in level for _, child in each.children]
    return max(1, depth)


def _grow(tree: Tree, shown: _Shown, depth: int) -> None:
    for name, record in shown.module.tensors.items():
        about = f"  {record.dtype} {words.shape(record.shape)}"
        tree.add(Text.assemble(words.harmless(name, None), (about, "dim")))
    for names, child in shown.children:
        label = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]}  ({len(names)} alike)"
        size = f"  {words.count(child.module.elements())}" + (" each" if len(names) > 1 else "")
        if depth == 1:
            size += f", {child.module.count():,} tensors"
        branch = tree.add(Text.assemble((words.harmless(label, None), "cyan"), (size, "dim")))
        if depth > 1:
            _grow(branch, child, depth - 1)
