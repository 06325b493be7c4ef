"""How weights moved from checkpoint to checkpoint, from the statistics in tensors.json alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from smartcash_format.errors import CheckpointError
from smartcash_format.spec import digest, layout
from smartcash_format.spec.tensors import TensorRecord
from smartcash_format.store.compare import read_documents
from smartcash_format.store.entry import Entry

# What a person can look over, and what is read for it: a manifest of 700 tensors takes 10 ms.
LAYERS: Final = 36
COLUMNS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The floating tensors of one module in one checkpoint, taken together.

    `l2` is the Euclidean norm of all of them, `absmax` the largest absolute value, `nan` and `inf`
    count elements. `digest` names the values of all its tensors.
    """

    l2: float
    absmax: float
    nan: int
    inf: int
    digest: str

    def moved(self, before: Layer | None) -> float | None:
        """By which part of itself the norm changed since; None where that has no number."""
        if before is None or not before.l2 or not math.isfinite(self.l2 - before.l2):
            return None
        return (self.l2 - before.l2) / before.l2


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightChanges:
    """The layers of the main weights in several checkpoints, the oldest first.

    `layers` has for each module one Layer for each of `entries`, None where it is not there.
    `of` is how many checkpoints there were to choose from.
    """

    entries: tuple[Entry, ...]
    layers: Mapping[str, tuple[Layer | None, ...]]
    of: int


def weight_changes(entries: Sequence[Entry], always: Iterable[Entry] = ()) -> WeightChanges:
    """How the weights moved along these checkpoints, given in the order of their saving.

    At most COLUMNS of them are read, evenly chosen: the first, the last and `always` among them.
    One whose tensors.json cannot be read is left out. Modules are taken together until at most
    LAYERS are left. No weights are opened.
    """
    chosen, found = [], []
    for entry in _chosen(entries, set(always)):
        try:
            _, tensors = read_documents(entry)
        except (CheckpointError, OSError):
            continue
        if layout.MODEL in tensors.weights:
            chosen.append(entry)
            found.append(tensors.weights[layout.MODEL].tensors)
    depth = _depth({name for tensors in found for name in tensors})
    columns = [_layers(tensors, depth) for tensors in found]
    names = sorted({name for column in columns for name in column}, key=_natural)
    return WeightChanges(
        entries=tuple(chosen),
        layers={name: tuple(column.get(name) for column in columns) for name in names},
        of=len(entries),
    )


def _chosen(entries: Sequence[Entry], always: set[Entry]) -> list[Entry]:
    if len(entries) <= COLUMNS:
        return list(entries)
    kept = {0, len(entries) - 1}
    kept |= {i for i, entry in enumerate(entries) if entry in always}
    room = COLUMNS - len(kept)
    step = (len(entries) - 1) / (room + 1)
    kept |= {round(step * (i + 1)) for i in range(room)}
    return [entries[i] for i in sorted(kept)]


def _depth(names: set[str]) -> int:
    """How many segments of a name tell layers apart without making too many."""
    deepest = max((name.count(".") for name in names), default=0)
    for depth in range(deepest, 1, -1):
        if len({_module(name, depth) for name in names}) <= LAYERS:
            return depth
    return 1


def _module(name: str, depth: int) -> str:
    *path, _ = name.split(".")
    return ".".join(path[:depth]) or name


def _natural(name: str) -> list[tuple[int, str]]:
    """tensors.json has names in the order of their bytes; people count layers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]


def _layers(tensors: Mapping[str, TensorRecord], depth: int) -> dict[str, Layer]:
    groups: dict[str, list[tuple[str, TensorRecord]]] = {}
    for name, record in sorted(tensors.items(), key=lambda item: _natural(item[0])):
        if record.l2 is not None:
            groups.setdefault(_module(name, depth), []).append((name, record))
    if len(groups) > LAYERS:
        rest = dict(list(groups.items())[LAYERS - 1 :])
        groups = dict(list(groups.items())[: LAYERS - 1])
        # After every name of letters, by its first character.
        groups[f"… {len(rest)} more"] = [each for group in rest.values() for each in group]
    return {name: _layer(group) for name, group in groups.items()}


def _layer(group: list[tuple[str, TensorRecord]]) -> Layer:
    records = [record for _, record in group]
    return Layer(
        # Not hypot, which calls an infinity larger than a NaN.
        l2=math.sqrt(sum(_square(record.l2) for record in records)),
        absmax=max(abs(record.absmax or 0.0) for record in records),
        nan=sum(record.nan or 0 for record in records),
        inf=sum(record.inf or 0 for record in records),
        digest=digest.digest_of("\n".join(f"{n} {r.digest}" for n, r in group).encode()),
    )


def _square(value: float | None) -> float:
    return (value or 0.0) * (value or 0.0)
