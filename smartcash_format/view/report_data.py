"""What a report shows, as one JSON document: rows, branches, configs; bounded in size.

Texts and configs that repeat stand once and are referred to by number. Where the document would be
too large it is made anew with less in it, and `left_out` says what is missing.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.spec import layout
from smartcash_format.spec.values import format_time
from smartcash_format.store.catalog import Listing
from smartcash_format.store.entry import Entry
from smartcash_format.store.lineage import lineages
from smartcash_format.view.answer import Answer, likely_mode

# Half a megabyte opens from a mail; of that, the page itself takes 100 kB.
DOCUMENT_BYTES: Final = 390_000
# Above this many checkpoints the document grows with them, by what each of these has.
CHECKPOINTS: Final = 500
BROKEN_SHOWN: Final = 100
_REASON_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """How much of each checkpoint is shown, and what a reader is told that is missing."""

    metrics: int
    digits: int
    config_lines: int
    characters: int
    left_out: str


_DETAILS: Final = (
    Detail(metrics=60, digits=17, config_lines=120, characters=200, left_out=""),
    Detail(
        metrics=24, digits=7, config_lines=40, characters=100,
        left_out="Only the 24 commonest metrics and 40 lines of each config, cut.",
    ),
    Detail(
        metrics=8, digits=5, config_lines=0, characters=40,
        left_out="Only the 8 commonest metrics, and no configs; texts are cut at 40 characters.",
    ),
)  # fmt: skip


@dataclass(slots=True)
class _Pool:
    """Values that repeat, each once, by number."""

    values: list[Any] = field(default_factory=list)
    numbers: dict[Any, int] = field(default_factory=dict)

    def number(self, value: Any) -> int:
        if value not in self.numbers:
            self.numbers[value] = len(self.values)
            self.values.append(value)
        return self.numbers[value]


def document(listing: Listing, found: Answer, *, now: datetime) -> str:
    """The JSON of a report, ASCII, with the most detail that fits its bound."""
    allowed = DOCUMENT_BYTES * max(1.0, len(listing) / CHECKPOINTS)
    text = ""
    for detail in _DETAILS:
        text = json.dumps(_document(listing, found, now, detail), separators=(",", ":"))
        if len(text) <= allowed:
            break
    return text


def _document(listing: Listing, found: Answer, now: datetime, detail: Detail) -> dict[str, Any]:
    entries = list(listing)
    row_of = {entry: row for row, entry in enumerate(entries)}
    metrics = _metrics(entries, found.metric, detail)
    all_metrics = len({name for entry in entries for name in entry.metrics})
    branches, branch_of = _branches(entries, row_of)
    texts, pairs, configs = _Pool(), _Pool(), _Pool()
    rows = []
    for entry in entries:
        facts = _facts(entry, detail)
        config = configs.number(tuple(pairs.number(pair) for pair in facts.config))
        rows.append(
            {
                "root": texts.number(entry.parent),
                "name": entry.name,
                "branch": branch_of[entry],
                "epoch": entry.epoch,
                "step": entry.step,
                "saved": entry.saved_at_text[:19],
                "flag": int(entry.is_best),
                "texts": [texts.number(text) for text in _texts(entry, detail)],
                "size": entry.size_bytes,
                "parts": texts.number(facts.parts),
                "values": _values(entry, metrics, detail),
                "config": config,
                "about": pairs_of(facts.about, pairs),
            }
        )
    keys = list(rows[0]) if rows else []
    left_out = detail.left_out
    if all_metrics > len(metrics) and not left_out:
        left_out = f"{len(metrics)} of {all_metrics} metrics are shown, the commonest."
    return {
        "made": format_time(now)[:19],
        "metrics": [name[: 4 * detail.characters] for name in metrics],
        "modes": [likely_mode(name) for name in metrics],
        "answer": {
            "row": None if found.entry is None else row_of[found.entry],
            "metric": metrics.index(found.metric) if found.metric in metrics else None,
            "mode": found.mode,
        },
        "keys": keys,
        "rows": [[row[key] for key in keys] for row in rows],
        "branches": branches,
        "texts": texts.values,
        "pairs": pairs.values,
        "configs": configs.values,
        "broken": [
            [str(broken), broken.reason[:_REASON_CHARACTERS]]
            for broken in listing.broken[:BROKEN_SHOWN]
        ],
        "broken_count": len(listing.broken),
        "legacy": len(listing.legacy),
        "left_out": left_out,
    }


@dataclass(frozen=True, slots=True)
class _Facts:
    config: list[tuple[str, str]]
    about: list[tuple[str, str]]
    parts: str


def _facts(entry: Entry, detail: Detail) -> _Facts:
    """What stands only in the whole meta.json; nothing where a field of it is wrong."""
    parts = " ".join(role for role in _PARTS if role in entry.roles)
    try:
        meta = entry.meta
    except InvalidCheckpointError as error:
        wrong = str(error.problems[0]) if error.problems else str(error)
        return _Facts([], [(layout.META, wrong[: detail.characters])], parts)
    config = flat(meta.config, detail) if meta.config is not None else []
    about = [
        ("environment " + name, str(value)[: detail.characters])
        for name, value in meta.environment.model_dump().items()
        if value is not None
    ]
    for name, weights in meta.weights.items():
        text = f"{weights.class_name or 'a state dict'}, {weights.parameters:,} parameters"
        about.append((f"weights {name}", text + ("" if weights.finite else ", not finite")))
    if meta.optimizer is not None:
        about.append(("optimizer", meta.optimizer.class_name or "a state dict"))
    if meta.scheduler is not None:
        about.append(("scheduler", meta.scheduler.class_name or "a state dict"))
    if detail.config_lines:
        about += [(f"file {name}", f"{r.size_bytes:,} bytes") for name, r in meta.files.items()]
    return _Facts(config, about[: detail.config_lines + 10], parts)


_PARTS: Final = ("weights", *sorted(layout.TORCH_ROLES))


def pairs_of(lines: Iterable[tuple[str, str]], pairs: _Pool) -> list[int]:
    """The numbers of these lines."""
    return [pairs.number(line) for line in lines]


def flat(value: Any, detail: Detail) -> list[tuple[str, str]]:
    """A config as lines of a dotted path and a short text, as many as the detail allows."""
    lines: list[tuple[str, str]] = []
    _flatten(value, "", lines, detail)
    return lines


def _flatten(value: Any, path: str, lines: list[tuple[str, str]], detail: Detail) -> None:
    if len(lines) >= detail.config_lines:
        return
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            _flatten(item, f"{path}.{key}" if path else str(key), lines, detail)
        return
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    lines.append((path[: detail.characters] or "value", text[: detail.characters]))


def _metrics(entries: Sequence[Entry], chosen: str | None, detail: Detail) -> list[str]:
    """The names that are shown, the commonest, the one that decides first."""
    counts = Counter(name for entry in entries for name in entry.metrics)
    names = sorted(counts, key=lambda name: (name != chosen, -counts[name], name))
    return names[: detail.metrics]


def _values(entry: Entry, metrics: Sequence[str], detail: Detail) -> list[Any]:
    """The metrics in the order of the names: a number, the name of what is none, None, no tail."""
    values = [_value(entry.metrics.get(name), detail.digits) for name in metrics]
    while values and values[-1] is None:
        values.pop()
    return values


def _value(value: int | float | None, digits: int) -> int | float | str | None:
    if value is None or isinstance(value, int):
        return value
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return float(f"{value:.{digits}g}")


def _texts(entry: Entry, detail: Detail) -> list[str]:
    given = (entry.backbone or "", entry.dataset or "", " ".join(entry.tags))
    return [text[: detail.characters] for text in given]


def _branches(
    entries: Sequence[Entry], row_of: Mapping[Entry, int]
) -> tuple[list[dict[str, Any]], dict[Entry, int]]:
    """The branches of every root with what a legend calls them, and each entry's branch."""
    roots = lineages(entries)
    short = _short_names(list(roots))
    branches: list[dict[str, Any]] = []
    branch_of: dict[Entry, int] = {}
    for root in sorted(roots):
        for branch in roots[root].branches:
            first, fork = branch.entries[0], branch.forked_from
            label = f"run {first.run_id[:8]}"
            if fork is not None:
                label += f", from epoch {fork.epoch}"
            if len(roots) > 1:
                label = f"{short[root][:80]}: {label}"
            branch_of.update(dict.fromkeys(branch.entries, len(branches)))
            branches.append({"label": label, "fork": None if fork is None else row_of[fork]})
    return branches, branch_of


def _short_names(roots: Sequence[str]) -> dict[str, str]:
    """The roots without the directories that they have in common."""
    if len(roots) < 2:
        return {root: Path(root).name for root in roots}
    try:
        common = os.path.commonpath(roots)
    except ValueError:
        return {root: root for root in roots}
    return {root: os.path.relpath(root, common) for root in roots}
