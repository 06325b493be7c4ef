"""Tensors as a tree of modules; layers that repeat stand once, with how often."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rich.text import Text
from rich.tree import Tree

from smartcash_format.spec.tensors import TensorRecord
from smartcash_format.view import words


@dataclass(slots=True)
class _Module:
    """A module's own tensors, and its children by name."""

    tensors: dict[str, TensorRecord] = field(default_factory=dict)
    children: dict[str, _Module] = field(default_factory=dict)

    def elements(self) -> int:
        own = sum(math.prod(record.shape) for record in self.tensors.values())
        return own + sum(child.elements() for child in self.children.values())

    def form(self) -> object:
        """What two modules have in common when they are the same but for their values."""
        own = tuple(sorted((n, r.dtype, tuple(r.shape)) for n, r in self.tensors.items()))
        return own, tuple((name, child.form()) for name, child in self.children.items())


def layer_tree(weight_set: str, tensors: Mapping[str, TensorRecord]) -> Tree:
    """The tree of one weight set."""
    root = _Module()
    for name, record in tensors.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            module = module.children.setdefault(part, _Module())
        module.tensors[leaf] = record
    elements = words.count(root.elements())
    tree = Tree(Text(f"{words.harmless(weight_set)}  {elements} elements", style="bold"))
    _grow(tree, root)
    return tree


def _grow(tree: Tree, module: _Module) -> None:
    for name, record in module.tensors.items():
        shape = "x".join(map(str, record.shape)) or "scalar"
        tree.add(Text.assemble(words.harmless(name), ("  " + f"{record.dtype} {shape}", "dim")))
    for names, child in _collapsed(module.children.items()):
        label = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]}  ({len(names)} alike)"
        size = f"  {words.count(child.elements())}" + (" each" if len(names) > 1 else "")
        _grow(tree.add(Text.assemble((words.harmless(label), "cyan"), (size, "dim"))), child)


def _collapsed(children: Iterable[tuple[str, _Module]]) -> list[tuple[list[str], _Module]]:
    """Neighbours of one form under one heading."""
    groups: list[tuple[list[str], _Module, object]] = []
    for name, child in children:
        form = child.form()
        if groups and groups[-1][2] == form:
            groups[-1][0].append(name)
        else:
            groups.append(([name], child, form))
    return [(names, child) for names, child, _ in groups]
