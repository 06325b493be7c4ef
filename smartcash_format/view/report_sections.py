"""The parts of a report that need no script: how weights moved, what is inside, what is on disk.

Each is a value for the template; shapes are drawn as SVG, because a style cannot stand in the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from smartcash_format.errors import CheckpointError
from smartcash_format.spec import layout, limits
from smartcash_format.spec.header_entry import DTYPE_BITS
from smartcash_format.spec.tensors import TensorRecord
from smartcash_format.store.catalog import Listing
from smartcash_format.store.compare import read_documents
from smartcash_format.store.disk_use import DiskUse, beside, disk_use
from smartcash_format.store.entry import Entry
from smartcash_format.store.lineage import Lineage
from smartcash_format.store.weight_changes import Layer, WeightChanges, weight_changes
from smartcash_format.view import words
from smartcash_format.view.lines import drawn_lines
from smartcash_format.view.treemap import squarified

# Steps of the heat map: a change of the norm below each of these parts of itself.
STEPS: Final = (0.0001, 0.001, 0.01, 0.1)
TILES: Final = 60
MAP_WIDTH, MAP_HEIGHT = 1_000, 420
_LARGEST: Final = 12
_BESIDE: Final = {
    "broken": "that cannot be read",
    "unfinished": "unfinished saves or removals",
    "legacy": "old .pt or .pth files",
}
# Wide enough for a name of some letters.
_LABEL_WIDTH: Final = 70
_LABEL_HEIGHT: Final = 24
_CHARACTER_WIDTH: Final = 8.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A layer in a checkpoint: how its colour is called, what stands in it, and its statistics."""

    kind: str
    text: str
    facts: str


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


class TensorRow(NamedTuple):
    """A tensor in words, and the bytes that it takes."""

    name: str
    dtype: str
    shape: str
    bytes: int

    @property
    def size(self) -> str:
        """The bytes in words."""
        return words.size(self.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """What the template shows: empty where there is nothing to show.

    `weights` is the document from which two of the columns are compared: the rows of the report
    that the columns are, and of each layer its norms and which of them are alike to the last bit.
    `uncounted` says what else the roots hold.
    """

    columns: tuple[str, ...]
    layers: tuple[tuple[str, tuple[Cell, ...]], ...]
    sampled: str
    inside: str
    tiles: tuple[Tile, ...]
    tensors: tuple[TensorRow, ...]
    dtypes: tuple[str, ...]
    weights: Mapping[str, Any]
    use: DiskUse
    parts: tuple[tuple[str, int, str], ...]
    largest: tuple[tuple[str, str, str], ...]
    uncounted: str


def sections(listing: Listing, chosen: Entry | None, roots: Mapping[str, Lineage]) -> Sections:
    """The sections of a report whose answer is `chosen`; `roots` has the lineage of each root."""
    entries = list(listing)
    changes = _changes(chosen, roots)
    tensors = _tensors(chosen)
    dtypes = tuple(sorted({record.dtype for record in tensors.values()}))
    rows = _tensor_rows(tensors)
    use = disk_use(entries)
    return Sections(
        columns=_columns(changes.entries),
        layers=tuple((words.harmless(n, 80), _cells(found)) for n, found in changes.layers.items()),
        sampled=f"{len(changes.entries)} of {changes.of} checkpoints"
        if changes.of > len(changes.entries)
        else "",
        weights=_comparable(entries, changes),
        inside="" if chosen is None else words.harmless(chosen.name),
        tiles=_tiles(rows, dtypes),
        tensors=tuple(rows),
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
        uncounted=_uncounted(listing),
    )


def _uncounted(listing: Listing) -> str:
    """What else the roots hold, in words; "" for nothing."""
    found = [
        f"{each.count} {_BESIDE[each.kind]} ({words.size(each.size_bytes)})"
        for each in beside(listing)
    ]
    return f"Not counted here: {', '.join(found)}." if found else ""


def _changes(chosen: Entry | None, roots: Mapping[str, Lineage]) -> WeightChanges:
    """Along the line of the answer, from its beginning."""
    if chosen is None:
        return weight_changes(())
    root = roots[chosen.parent]
    line = next(each for each in drawn_lines(root.branches) if chosen in each.entries).entries
    path = [*reversed(root.ancestors(line[0])), *line]
    return weight_changes(path, [chosen])


def _columns(entries: Sequence[Entry]) -> tuple[str, ...]:
    """What the columns of the heat map are called: by epoch, or by step where that says more."""
    epochs = {entry.epoch for entry in entries}
    steps = {entry.step for entry in entries}
    if None not in steps and len(steps) > len(epochs):
        return tuple(f"step {entry.step}" for entry in entries)
    return tuple(f"epoch {entry.epoch}" for entry in entries)


def _comparable(entries: Sequence[Entry], changes: WeightChanges) -> dict[str, Any]:
    row_of = {entry: row for row, entry in enumerate(entries)}
    layers = []
    for name, found in changes.layers.items():
        known: dict[str, int] = {}
        norms = [None if layer is None else _json_number(layer.l2) for layer in found]
        alike = [
            None if layer is None else known.setdefault(layer.digest, len(known)) for layer in found
        ]
        layers.append([name[:80], norms, alike])
    return {"rows": [row_of[entry] for entry in changes.entries], "layers": layers}


def _json_number(value: float | None) -> float | str | None:
    """Four digits are enough for a change; what is no number stands by its name."""
    if value is None or math.isfinite(value):
        return value if value is None else float(f"{value:.5g}")
    return words.number(value)


def _cells(layers: Sequence[Layer | None]) -> tuple[Cell, ...]:
    before: Layer | None = None
    cells = []
    for layer in layers:
        cells.append(_cell(layer, before))
        before = layer or before
    return tuple(cells)


def _cell(layer: Layer | None, before: Layer | None) -> Cell:
    if layer is None:
        return Cell(kind="none", text="", facts="")
    facts = f"{_number(layer.l2)} / {_number(layer.absmax)}"
    if layer.nan or layer.inf:
        counts = ((layer.nan, "NaN"), (layer.inf, "∞"))
        found = ", ".join(f"{count:,} {name}" for count, name in counts if count)
        text = ", ".join(name for count, name in counts if count)
        return Cell(kind="bad", text=text, facts=f"{facts} / {found}")
    if before is None:
        return Cell(kind="first", text="·", facts=facts)
    if layer.digest == before.digest:
        return Cell(kind="same", text="=", facts=facts)
    moved = layer.moved(before)
    if moved is None:
        return Cell(kind="s1", text="≠", facts=facts)
    step = sum(abs(moved) >= bound for bound in STEPS)
    return Cell(kind=f"s{step}", text=_percent(moved), facts=facts)


def _number(value: float | None) -> str:
    return "-" if value is None else words.number(value)


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


def _tensor_rows(tensors: Mapping[str, TensorRecord]) -> list[TensorRow]:
    """The largest tensors, the largest first, and what the others are together."""
    rows = [
        TensorRow(
            name=words.harmless(name, 200),
            dtype=record.dtype,
            shape=" x ".join(map(str, record.shape)) or "scalar",
            bytes=_bytes(record),
        )
        for name, record in tensors.items()
    ]
    rows.sort(key=lambda row: (-row.bytes, row.name))
    if rest := rows[TILES:]:
        together = sum(row.bytes for row in rest)
        rows[TILES:] = [TensorRow(f"{len(rest)} smaller tensors", "", "", together)]
    return rows


def _bytes(record: TensorRecord) -> int:
    """What a tensor takes; a manifest of a stranger may claim any shape."""
    bits = math.prod(record.shape) * DTYPE_BITS.get(record.dtype, 8)
    return min(bits // 8, limits.INTEGER_MAX)


def _tiles(rows: Sequence[TensorRow], dtypes: Sequence[str]) -> tuple[Tile, ...]:
    found = sorted((row for row in rows if row.bytes), key=lambda row: -row.bytes)
    places = squarified([float(row.bytes) for row in found], MAP_WIDTH, MAP_HEIGHT)
    return tuple(
        Tile(
            x=round(place.x, 1),
            y=round(place.y, 1),
            width=round(place.width, 1),
            height=round(place.height, 1),
            dtype=f"d{dtypes.index(row.dtype) % 6}" if row.dtype else "rest",
            label=_label(row.name, place.width, place.height),
            title=f"{row.name}: {row.dtype} {row.shape}, {row.size}".replace(":  ,", ":"),
        )
        for row, place in zip(found, places, strict=True)
    )


def _label(name: str, width: float, height: float) -> str:
    """As much of the end of a name as has room."""
    if width < _LABEL_WIDTH or height < _LABEL_HEIGHT:
        return ""
    room = int(width / _CHARACTER_WIDTH)
    return name if len(name) <= room else "…" + name[-room + 1 :]
