"""One checkpoint as a tree for the terminal: what it is, what it measured, what it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich.text import Text
from rich.tree import Tree

from smartcash_format.spec.meta import Meta, WeightSet
from smartcash_format.view import words

# A config longer than this is looked at as JSON.
CONFIG_LINES: Final = 60
_VALUE_CHARACTERS: Final = 120


def checkpoint_tree(path: Path, meta: Meta, *, now: datetime) -> Tree:
    """The tree of one checkpoint."""
    tree = Tree(Text(words.harmless(str(path)), style="bold"))
    step = "" if meta.step is None else f", step {meta.step}"
    best = ", flagged best" if meta.is_best else ""
    age = words.age(meta.saved_at, now)
    _leaf(tree, "saved", f"{meta.saved_at:%Y-%m-%d %H:%M:%S} UTC ({age} ago)")
    _leaf(tree, "epoch", f"{meta.epoch}{step}{best}")
    for name, value in (("backbone", meta.backbone), ("dataset", meta.dataset)):
        if value is not None:
            _leaf(tree, name, value)
    if meta.tags:
        _leaf(tree, "tags", " ".join(meta.tags))
    if meta.metrics:
        metrics = tree.add(Text("metrics"))
        for name in sorted(meta.metrics):
            _leaf(metrics, name, words.number(meta.metrics[name]))
    for name, weights in meta.weights.items():
        _leaf(tree, f"weights {name}", _weights(weights))
    if meta.optimizer is not None:
        groups = ", ".join(f"{group.parameters} parameters" for group in meta.optimizer.groups)
        _leaf(tree, "optimizer", f"{meta.optimizer.class_name or 'a state dict'} ({groups})")
    if meta.scheduler is not None:
        _leaf(tree, "scheduler", meta.scheduler.class_name or "a state dict")
    if meta.extra or meta.rng:
        _leaf(tree, "extra", ", ".join([*meta.extra, *(["random state"] if meta.rng else [])]))
    files = tree.add(Text(f"files, {words.size(meta.size_bytes)}"))
    for name in sorted(meta.files, key=lambda name: -meta.files[name].size_bytes):
        _leaf(files, name, words.size(meta.files[name].size_bytes))
    _config(tree, meta.config)
    return tree


def _weights(weights: WeightSet) -> str:
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in sorted(weights.dtypes.items()))
    parts = [weights.class_name or "a state dict", f"{words.count(weights.parameters)} parameters"]
    if weights.trainable_parameters is not None:
        parts.append(f"{words.count(weights.trainable_parameters)} trainable")
    parts.append(f"{weights.tensors} tensors ({dtypes})")
    if not weights.finite:
        parts.append("NaN or infinity in it")
    return ", ".join(parts)


def _config(tree: Tree, config: Any) -> None:
    if config is None:
        return
    lines = list(_flat(config))
    branch = tree.add(Text("config"))
    for path, value in lines[:CONFIG_LINES]:
        _leaf(branch, path or "value", value)
    if len(lines) > CONFIG_LINES:
        branch.add(Text(f"... {len(lines) - CONFIG_LINES} more: show --format json", style="dim"))


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


def _leaf(tree: Tree, name: str, value: str) -> None:
    text = words.harmless(value, _VALUE_CHARACTERS)
    tree.add(Text.assemble((words.harmless(name), "cyan"), "  ", text))
