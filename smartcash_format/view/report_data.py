"""What a report shows, as one JSON document: rows, branches, configs; bounded in size.

Texts and configs that repeat stand once and are referred to by number. Where the document would be
too large it is made anew with less in it, and `left_out` says what is missing.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from smartcash_format.spec.spelling import format_time
from smartcash_format.store.catalog import Listing
from smartcash_format.store.entry import Entry
from smartcash_format.store.lineage import Lineage
from smartcash_format.view import words
from smartcash_format.view.answer import Answer, by_likelihood, identity, likely_mode
from smartcash_format.view.lines import drawn_lines
from smartcash_format.view.report_facts import Detail, Facts, Shears, algorithm_of, facts

BROKEN_SHOWN: Final = 100
_REASON_CHARACTERS: Final = 300
_DETAILS: Final = (
    Detail(metrics=60, digits=17, lines=120, characters=200),
    Detail(metrics=60, digits=7, lines=60, characters=100),
    Detail(metrics=24, digits=7, lines=40, characters=80),
    Detail(metrics=16, digits=6, lines=12, characters=60),
    Detail(metrics=8, digits=5, lines=0, characters=40),
)


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


def document(
    listing: Listing,
    found: Answer,
    roots: Mapping[str, Lineage],
    *,
    now: datetime,
    allowed: int,
) -> str:
    """The JSON of a report, ASCII, safe inside a script, with the most detail that fits.

    Where even the least is larger than `allowed` characters, that is what there is.
    """
    branches = _branches(list(listing), roots)
    known = [facts(entry) for entry in listing]
    found_document: dict[str, Any] = {}
    for detail in _DETAILS:
        found_document = _document(listing, found, now, branches, known, Shears(detail))
        text = json_for_script(found_document)
        if len(text) <= allowed:
            return text
    found_document["left_out"] += " Even so it is large: names or paths are very long."
    return json_for_script(found_document)


def json_for_script(document: Any) -> str:
    """JSON that stands in a <script> of HTML and cannot end it."""
    text = json.dumps(document, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _document(
    listing: Listing,
    found: Answer,
    now: datetime,
    branches: _Branches,
    known: Sequence[Facts],
    shears: Shears,
) -> dict[str, Any]:
    entries = list(listing)
    detail = shears.detail
    metrics = _metrics(entries, found.metric, detail)
    texts, pairs, configs, weights = _Pool(), _Pool(), _Pool(), _Pool()
    saves = _saves(entries)
    rows = []
    for entry, its in zip(entries, known, strict=True):
        rows.append(
            {
                "root": texts.number(entry.parent),
                "name": entry.name,
                "branch": branches.of[entry],
                "epoch": entry.epoch,
                "step": entry.step,
                "saved": entry.saved_at_text[:19],
                "flag": int(entry.is_best),
                "texts": [texts.number(shears.text(text)) for text in _texts(entry)],
                "size": entry.size_bytes,
                "parts": texts.number(its.parts),
                "values": _values(entry, metrics, detail),
                "config": configs.number(
                    tuple(pairs.number(line) for line in shears.lines(its.config))
                ),
                "about": [pairs.number(line) for line in shears.lines(its.about)],
                "weights": weights.number(its.weights),
                "save": saves[entry],
            }
        )
    keys = list(rows[0]) if rows else []
    return {
        "made": format_time(now)[:19],
        "metrics": [shears.text(name) for name in metrics],
        "modes": [likely_mode(name) for name in metrics],
        "answer": {
            "row": None if found.entry is None else entries.index(found.entry),
            "metric": metrics.index(found.metric) if found.metric in metrics else None,
            "mode": found.mode,
        },
        "keys": keys,
        "rows": [[row[key] for key in keys] for row in rows],
        "branches": branches.shown,
        "texts": texts.values,
        "pairs": pairs.values,
        "configs": configs.values,
        # Of a digest only who else has it matters, and how it was taken.
        "weights": [algorithm_of(each) for each in weights.values],
        "broken": [
            [_end(str(broken)), broken.reason[:_REASON_CHARACTERS]]
            for broken in listing.broken[:BROKEN_SHOWN]
        ],
        "broken_count": len(listing.broken),
        "legacy": len(listing.legacy),
        "left_out": _left_out(entries, metrics, shears),
    }


def _left_out(entries: Sequence[Entry], metrics: Sequence[str], shears: Shears) -> str:
    """What a reader is told that is missing; "" where nothing is."""
    detail = shears.detail
    every = len({name for entry in entries for name in entry.metrics})
    missing = []
    if every > len(metrics):
        missing.append(f"{len(metrics)} of {every} metrics are shown, the commonest")
    if detail.digits < 17 and metrics:
        missing.append(f"metrics have {detail.digits} digits")
    if shears.cut_lines:
        lines = f"the first {detail.lines} lines" if detail.lines else "no lines"
        missing.append(f"{lines} of each config and list of files are shown")
    if shears.cut_texts:
        missing.append(f"texts are cut at {detail.characters} characters")
    if not missing:
        return ""
    said = "; ".join(missing)
    return f"To keep this page small: {said}. What is cut ends in #, some digits of the whole."


def _end(path: str) -> str:
    return path if len(path) <= _REASON_CHARACTERS else "…" + path[-_REASON_CHARACTERS:]


def _saves(entries: Iterable[Entry]) -> dict[Entry, int]:
    """A number for each entry that its copies and what was stripped from it have too."""
    number_of: dict[str, int] = {}
    found = {}
    for number, entry in enumerate(entries):
        ids = identity(entry)
        mine = next((number_of[each] for each in ids if each in number_of), number)
        number_of.update(dict.fromkeys(ids, mine))
        found[entry] = mine
    return found


def _metrics(entries: Sequence[Entry], chosen: str | None, detail: Detail) -> list[str]:
    """The names that are shown, the commonest: the one that decides first, the likeliest next."""
    counts = Counter(name for entry in entries for name in entry.metrics)
    names = sorted(by_likelihood(counts), key=lambda name: (name != chosen, -counts[name]))
    return names[: detail.metrics]


def _values(entry: Entry, metrics: Sequence[str], detail: Detail) -> list[Any]:
    """The metrics in the order of the names: a number, the name of what is none, None, no tail."""
    values = [_value(entry.metric(name), detail.digits) for name in metrics]
    while values and values[-1] is None:
        values.pop()
    return values


def _value(value: int | float | None, digits: int) -> int | float | str | None:
    if value is None or isinstance(value, int):
        return value
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return float(f"{value:.{digits}g}")


def _texts(entry: Entry) -> tuple[str, str, str]:
    return entry.backbone or "", entry.dataset or "", " ".join(entry.tags)


class _Branches(NamedTuple):
    """The branches of every root with what a legend calls them, and each entry's branch."""

    shown: list[dict[str, Any]]
    of: dict[Entry, int]


def _branches(entries: Sequence[Entry], roots: Mapping[str, Lineage]) -> _Branches:
    row_of = {entry: row for row, entry in enumerate(entries)}
    short = words.short_roots(roots)
    branches: list[dict[str, Any]] = []
    branch_of: dict[Entry, int] = {}
    for root in sorted(roots):
        for line, fork in drawn_lines(roots[root].branches):
            label = f"run {line[0].run_id[:8]}"
            if len({entry.run_id for entry in line if entry.parent_id is None}) > 1:
                label = f"saved one by one, from epoch {line[0].epoch}"
            if fork is not None:
                label += f", from epoch {fork.epoch}"
            if len(roots) > 1:
                label = f"{short[root][:80]}: {label}"
            branch_of.update(dict.fromkeys(line, len(branches)))
            branches.append({"label": label, "fork": None if fork is None else row_of[fork]})
    return _Branches(branches, branch_of)
