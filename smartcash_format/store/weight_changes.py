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
from smartcash_format.store.grouping import grouped

# What a person can look over, and what is read for it: a manifest of 700 tensors takes 10 ms.
COLUMNS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The tensors of one layer in one checkpoint, taken together.

    `l2` is the Euclidean norm of the floating ones, `absmax` their largest absolute value, None
    where none is floating; `nan` and `inf` count elements. `digest` names the values of all.
    """

    l2: float | None
    absmax: float | None
    nan: int
    inf: int
    digest: str

    def moved(self, before: Layer | None) -> float | None:
        """By which part of itself the norm changed since; None where that has no number."""
        if before is None or self.l2 is None or not before.l2:
            return None
        if not math.isfinite(self.l2 - before.l2):
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
    One whose tensors.json cannot be read is left out. Modules are taken together as `grouped`
    does. No weights are opened.
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
    layers = grouped({name for tensors in found for name in tensors})
    return WeightChanges(
        entries=tuple(chosen),
        layers={
            label: tuple(_layer(names, tensors) for tensors in found)
            for label, names in layers.items()
        },
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


def _layer(names: Iterable[str], tensors: Mapping[str, TensorRecord]) -> Layer | None:
    group = [(name, tensors[name]) for name in names if name in tensors]
    if not group:
        return None
    records = [record for _, record in group if record.l2 is not None]
    return Layer(
        # Not hypot, which calls an infinity larger than a NaN.
        l2=math.sqrt(sum(_square(record.l2) for record in records)) if records else None,
        absmax=_largest(record.absmax for record in records) if records else None,
        nan=sum(record.nan or 0 for record in records),
        inf=sum(record.inf or 0 for record in records),
        digest=digest.digest_of("\n".join(f"{n} {r.digest}" for n, r in group).encode()),
    )


def _largest(values: Iterable[float | None]) -> float:
    """The largest absolute value; NaN where there is one, wherever it stands."""
    found = [abs(value or 0.0) for value in values]
    return math.nan if any(map(math.isnan, found)) else max(found)


def _square(value: float | None) -> float:
    return (value or 0.0) * (value or 0.0)
