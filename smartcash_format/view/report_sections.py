"""The parts of a report that need no script: how weights moved, what is inside, what is on disk.

Each is a value for the template; shapes are drawn as SVG, because a style cannot stand in the page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from smartcash_format.errors import CheckpointError
from smartcash_format.spec import layout
from smartcash_format.spec.tensors import TensorRecord
from smartcash_format.store.compare import read_documents
from smartcash_format.store.disk_use import DiskUse, disk_use
from smartcash_format.store.entry import Entry
from smartcash_format.store.lineage import lineages
from smartcash_format.store.weight_changes import Layer, WeightChanges, weight_changes
from smartcash_format.view import words
from smartcash_format.view.treemap import squarified

# Steps of the heat map: a change of the norm below each of these parts of itself.
STEPS: Final = (0.0001, 0.001, 0.01, 0.1)
TILES: Final = 60
MAP_WIDTH, MAP_HEIGHT = 1_000, 420
_LARGEST: Final = 12
# Wide enough for a name of some letters.
_LABEL_WIDTH: Final = 70
_LABEL_HEIGHT: Final = 24
_CHARACTER_WIDTH: Final = 8.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A layer in a checkpoint: how its colour is called, what stands in it, what it says."""

    kind: str
    text: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A module in the treemap: where, how its colour is called, its label and its words."""

    x: float
    y: float
    width: float
    height: float
    dtype: str
    label: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """What the template shows: empty where there is nothing to show.

    `weights` is the JSON from which two of the columns are compared: the rows of the report that
    the columns are, and of each layer its norms and which of them are the same to the last bit.
    """

    columns: tuple[str, ...]
    layers: tuple[tuple[str, tuple[Cell, ...]], ...]
    sampled: str
    inside: str
    tiles: tuple[Tile, ...]
    dtypes: tuple[str, ...]
    weights: str
    use: DiskUse
    parts: tuple[tuple[str, int, str], ...]
    largest: tuple[tuple[str, str, str], ...]


def sections(entries: Sequence[Entry], chosen: Entry | None) -> Sections:
    """The sections of a report whose answer is `chosen`."""
    changes = _changes(entries, chosen)
    tensors = _tensors(chosen)
    dtypes = tuple(sorted({record.dtype for record in tensors.values()}))
    use = disk_use(entries)
    return Sections(
        columns=tuple(f"epoch {entry.epoch}" for entry in changes.entries),
        layers=tuple((words.harmless(n, 80), _cells(found)) for n, found in changes.layers.items()),
        sampled=f"{len(changes.entries)} of {changes.of} checkpoints"
        if changes.of > len(changes.entries)
        else "",
        weights=_comparable(entries, changes),
        inside="" if chosen is None else words.harmless(chosen.name),
        tiles=_tiles(tensors, dtypes),
        dtypes=dtypes,
        use=use,
        parts=tuple((part, size, words.size(size)) for part, size in use.by_part.items()),
        largest=tuple(
            (
                words.harmless(each.entry.name),
                words.size(each.exclusive_bytes),
                words.size(each.shared_bytes) if each.shared_bytes else "",
            )
            for each in sorted(use.checkpoints, key=lambda each: -each.exclusive_bytes)[:_LARGEST]
        ),
    )


def _changes(entries: Sequence[Entry], chosen: Entry | None) -> WeightChanges:
    """Along the branch of the answer, from its beginning."""
    if chosen is None:
        return weight_changes(())
    root = lineages(entry for entry in entries if entry.parent == chosen.parent)[chosen.parent]
    branch = next(each.entries for each in root.branches if chosen in each.entries)
    path = [*reversed(root.ancestors(branch[0])), *branch]
    return weight_changes(path, [chosen])


def _comparable(entries: Sequence[Entry], changes: WeightChanges) -> str:
    row_of = {entry: row for row, entry in enumerate(entries)}
    layers = []
    for name, found in changes.layers.items():
        known: dict[str, int] = {}
        norms = [None if layer is None else words.number(layer.l2) for layer in found]
        alike = [
            None if layer is None else known.setdefault(layer.digest, len(known)) for layer in found
        ]
        layers.append([name[:80], norms, alike])
    document = {"rows": [row_of[entry] for entry in changes.entries], "layers": layers}
    return json.dumps(document, separators=(",", ":"))


def _cells(layers: Sequence[Layer | None]) -> tuple[Cell, ...]:
    before: Layer | None = None
    cells = []
    for layer in layers:
        cells.append(_cell(layer, before))
        before = layer or before
    return tuple(cells)


def _cell(layer: Layer | None, before: Layer | None) -> Cell:
    if layer is None:
        return Cell(kind="none", text="", title="not there")
    facts = f"norm {words.number(layer.l2)}, largest {words.number(layer.absmax)}"
    if layer.nan or layer.inf:
        broken = f"{layer.nan} NaN" if layer.nan else f"{layer.inf} infinite"
        return Cell(kind="bad", text="NaN" if layer.nan else "∞", title=f"{broken}; {facts}")
    if before is None:
        return Cell(kind="first", text="·", title=facts)
    if layer.digest == before.digest:
        return Cell(kind="same", text="=", title=f"unchanged; {facts}")
    moved = layer.moved(before)
    if moved is None:
        return Cell(kind="first", text="·", title=facts)
    step = sum(abs(moved) >= bound for bound in STEPS)
    return Cell(kind=f"s{step}", text=_percent(moved), title=f"norm {_percent(moved)}; {facts}")


def _percent(part: float) -> str:
    percent = 100 * part
    digits = 0 if abs(percent) >= 10 else 1 if abs(percent) >= 1 else 2
    return f"{percent:+.{digits}f}%"


def _tensors(chosen: Entry | None) -> Mapping[str, TensorRecord]:
    if chosen is None:
        return {}
    try:
        _, tensors = read_documents(chosen)
    except (CheckpointError, OSError):
        return {}
    return tensors.weights[layout.MODEL].tensors if layout.MODEL in tensors.weights else {}


def _tiles(tensors: Mapping[str, TensorRecord], dtypes: Sequence[str]) -> tuple[Tile, ...]:
    found = sorted(
        ((math.prod(record.shape), name, record) for name, record in tensors.items()),
        key=lambda each: (-each[0], each[1]),
    )
    found = [each for each in found if each[0]]
    named = [
        (
            count,
            name,
            f"{name}: {record.dtype} {' x '.join(map(str, record.shape)) or 'scalar'}",
            dtypes.index(record.dtype),
        )
        for count, name, record in found[:TILES]
    ]
    if rest := found[TILES:]:
        count = sum(each[0] for each in rest)
        named.append((count, f"{len(rest)} smaller", f"{len(rest)} smaller tensors", -1))
        named.sort(key=lambda each: -each[0])
    places = squarified([float(each[0]) for each in named], MAP_WIDTH, MAP_HEIGHT)
    return tuple(
        Tile(
            x=round(place.x, 1),
            y=round(place.y, 1),
            width=round(place.width, 1),
            height=round(place.height, 1),
            dtype="rest" if dtype < 0 else f"d{dtype % 6}",
            label=_label(name, place.width, place.height),
            title=f"{words.harmless(title, 200)}, {words.count(count)} elements",
        )
        for (count, name, title, dtype), place in zip(named, places, strict=True)
    )


def _label(name: str, width: float, height: float) -> str:
    """As much of the end of a name as has room."""
    if width < _LABEL_WIDTH or height < _LABEL_HEIGHT:
        return ""
    room = int(width / _CHARACTER_WIDTH)
    return words.harmless(name if len(name) <= room else "…" + name[-room + 1 :], room + 20)
