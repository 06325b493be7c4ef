"""One checkpoint as a tree for the terminal: what it is, what it measured, what it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.text import Text
from rich.tree import Tree

from smartcash_format.spec import layout
from smartcash_format.spec.meta import Environment, Meta, WeightSet
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.tensors import Tensors
from smartcash_format.view import words
from smartcash_format.view.layers import layer_tree
from smartcash_format.view.terminal import SCREEN, Room


def checkpoint_tree(
    path: Path,
    meta: Meta,
    *,
    now: datetime,
    tensors: Tensors | None = None,
    problems: Sequence[Problem] = (),
    unlisted: Sequence[str] = (),
    room: Room = SCREEN,
) -> Tree:
    """The tree of one checkpoint.

    `tensors` adds the layers of each weight set; `problems` says why they are not there. `unlisted`
    are the names in the directory that meta.json does not list.
    """
    tree = Tree(Text(words.harmless(str(path), None), style="bold"))
    leaf = partial(_leaf, room=room)
    step = "" if meta.step is None else f", step {meta.step}"
    best = ", flagged best" if meta.is_best else ""
    age = words.age(meta.saved_at, now)
    leaf(tree, "saved", f"{meta.saved_at:%Y-%m-%d %H:%M:%S} UTC ({age} ago)")
    leaf(tree, "epoch", f"{meta.epoch}{step}{best}")
    leaf(tree, "run", _run(meta))
    for name, value in (("backbone", meta.backbone), ("dataset", meta.dataset)):
        if value is not None:
            leaf(tree, name, value)
    if meta.tags:
        leaf(tree, "tags", " ".join(meta.tags))
    if meta.metrics:
        metrics = tree.add(Text("metrics"))
        for name in sorted(meta.metrics):
            leaf(metrics, name, words.number(meta.metrics[name]))
    for name, weights in meta.weights.items():
        branch = leaf(tree, f"weights {name}", _weights(weights))
        if tensors is not None and name in tensors.weights:
            layers = layer_tree(name, tensors.weights[name].tensors, lines=room.lines)
            branch.children += layers.children
        for problem in problems:
            leaf(branch, "layers", f"cannot be shown: {problem.where} {problem.message}")
    if meta.optimizer is not None:
        groups = ", ".join(f"{group.parameters} parameters" for group in meta.optimizer.groups)
        leaf(tree, "optimizer", f"{meta.optimizer.class_name or 'a state dict'} ({groups})")
    if meta.scheduler is not None:
        leaf(tree, "scheduler", meta.scheduler.class_name or "a state dict")
    if meta.extra or meta.rng:
        leaf(tree, "extra", ", ".join([*meta.extra, *(["random state"] if meta.rng else [])]))
    if made := _made_with(meta.environment):
        leaf(tree, "made with", made)
    if meta.environment.git_commit is not None:
        leaf(tree, "commit", meta.environment.git_commit)
    _files(tree, meta, unlisted, room)
    _values(tree, "config", meta.config, room)
    _values(tree, "notes", meta.notes, room)
    return tree


def _run(meta: Meta) -> str:
    """The run that saved it, and what it was made from, as tables and directories show ids."""
    parts = [meta.run_id[:8]]
    if meta.parent_id is not None:
        parts.append(f"after {meta.parent_id[:8]}")
    if meta.derived_from is not None:
        parts.append(f"made from {meta.derived_from[:8]}")
    return ", ".join(parts)


def _made_with(environment: Environment) -> str:
    versions = {
        "Python": environment.python,
        "torch": environment.torch,
        "smartcash_format": environment.smartcash_format,
    }
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def _files(tree: Tree, meta: Meta, unlisted: Sequence[str], room: Room) -> None:
    """What the directory holds, the largest first."""
    files = tree.add(Text(f"files, {words.size(meta.size_bytes)}"))
    for name in sorted(meta.files, key=lambda name: -meta.files[name].size_bytes):
        _leaf(files, name, words.size(meta.files[name].size_bytes), room=room)
    _leaf(files, layout.META, "this description", room=room)
    for name in unlisted[: room.names]:
        _leaf(files, name, "not listed in meta.json", room=room)
    if room.names is not None and len(unlisted) > room.names:
        files.add(Text(f"... {len(unlisted) - room.names} more that are not listed", style="dim"))


def _weights(weights: WeightSet) -> str:
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in sorted(weights.dtypes.items()))
    parts = [weights.class_name or "a state dict", f"{words.count(weights.parameters)} parameters"]
    if weights.trainable_parameters is not None:
        parts.append(f"{words.count(weights.trainable_parameters)} trainable")
    parts.append(f"{weights.tensors} tensors ({dtypes})")
    if not weights.finite:
        parts.append("NaN or infinity in it")
    return ", ".join(parts)


def _values(tree: Tree, name: str, values: Any, room: Room) -> None:
    """What the user gave, a line a value."""
    if values is None or values == {}:
        return
    lines = list(_flat(values))
    branch = tree.add(Text(name))
    for path, value in lines[: room.lines]:
        _leaf(branch, path or "value", value, room=room)
    if room.lines is not None and len(lines) > room.lines:
        branch.add(Text(f"... {len(lines) - room.lines} more: show --format json", style="dim"))


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [
            line
            for key, item in value.items()
            for line in _flat(item, f"{path}.{key}" if path else str(key))
        ]
    is_long = isinstance(value, Sequence) and not isinstance(value, str)
    if is_long and any(isinstance(item, Mapping) for item in value):
        return [line for i, item in enumerate(value) for line in _flat(item, f"{path}[{i}]")]
    return [(path, str(value))]


def _leaf(tree: Tree, name: str, value: str, *, room: Room) -> Tree:
    text = words.harmless(value, room.characters)
    return tree.add(Text.assemble((words.harmless(name, None), "cyan"), "  ", text))
