"""Which checkpoint to use, by which metric, and how far it is ahead: the first line of a report."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from smartcash_format.store import query
from smartcash_format.store.entry import Entry
from smartcash_format.store.query import Mode
from smartcash_format.view import words

# Flags of a training whose earlier checkpoints were pruned agree a little less than always.
AGREEMENT: Final = 0.9
_MODES: Final[tuple[Mode, Mode]] = ("max", "min")
# What is better when it is smaller, told by its name.
_SMALLER: Final = ("loss", "error", "err", "mae", "mse", "rmse", "perplexity", "ppl", "wer", "cer")
# What people choose by, the likeliest first, where nothing else says it.
_LIKELY: Final = ("map50-95", "map", "f1", "accuracy", "acc", "auc", "iou", "dice", "loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The checkpoint to use, what decided, and those that it is compared with.

    `entry` is None when there is no checkpoint. `metric` is None when no metric decided; `why`
    says what did. `next` is the second by the metric, `last` the newest.
    """

    entry: Entry | None
    why: str
    metric: str | None = None
    mode: Mode | None = None
    next: Entry | None = None
    last: Entry | None = None

    def sentences(self) -> tuple[str, ...]:
        """The answer in words, the checkpoint's name left to whoever shows it."""
        if self.entry is None:
            return ("There is no checkpoint here.",)
        if self.metric is None:
            return (self.why,)
        value = self.entry.metrics[self.metric]
        better = "larger" if self.mode == "max" else "smaller"
        said = [f"{words.harmless(self.metric, 80)} {words.number(value)}; {better} is better."]
        if self.next is not None:
            said.append(self._ahead(self.next, "the next best"))
        if self.last is not None and self.last != self.entry:
            said.append(self._ahead(self.last, "the newest"))
        elif self.last is not None:
            said.append("It is also the newest.")
        return (*said, self.why)

    def _ahead(self, other: Entry, who: str) -> str:
        assert self.entry is not None
        assert self.metric is not None
        mine, its = self.entry.metrics[self.metric], other.metrics.get(self.metric)
        where = f"{who} (epoch {other.epoch})"
        if its is None or math.isnan(its):
            return f"For {where} it is {'NaN' if its is not None else 'not known'}."
        distance = abs(mine - its)
        if distance == 0:
            return f"Level with {where}."
        share = f", {distance / abs(its):.1%}" if its and math.isfinite(its) else ""
        return f"{words.number(distance)} ahead of {where}{share}."


def answer(entries: Sequence[Entry], metric: str | None = None, mode: Mode | None = None) -> Answer:
    """The answer for these entries: by the metric given, else by what the flags go by, else a name.

    Where no metric of these says anything, the last one flagged best, else the newest.
    """
    newest = query.latest(entries)
    if newest is None:
        return Answer(entry=None, why="")
    if metric is not None:
        return _by(entries, metric, mode, "") or Answer(
            entry=newest,
            last=newest,
            why=f"No checkpoint has a number in {words.harmless(metric, 80)}: this is the newest.",
        )
    flagged = query.best(entries)
    found = _explains_flags(entries) if flagged is not None else None
    if found is not None:
        chosen = _by(entries, *found, "The checkpoints were flagged best by this metric.")
        if chosen is not None:
            return chosen
    if flagged is not None:
        why = "The last one that was flagged best when it was saved."
        return Answer(entry=flagged, last=newest, why=why)
    likely = _likely(entries)
    if likely is not None:
        why = "Nothing says what decides: the metric was guessed by its name."
        chosen = _by(entries, likely, likely_mode(likely), why)
        if chosen is not None:
            return chosen
    why = "The newest: none is flagged best, and none has a metric that could be ranked."
    return Answer(entry=newest, last=newest, why=why)


def likely_mode(metric: str) -> Mode:
    """Whether a metric of this name is better when it is smaller, or when it is larger."""
    lowered = metric.lower()
    return "min" if any(word in lowered for word in _SMALLER) else "max"


def _by(entries: Sequence[Entry], metric: str, mode: Mode | None, why: str) -> Answer | None:
    ranked = query.ranked(entries, metric, mode)
    if not ranked:
        return None
    second = ranked[1] if len(ranked) > 1 else None
    return Answer(
        entry=ranked[0],
        metric=metric,
        mode=mode,
        next=second,
        last=query.latest(entries),
        why=why,
    )


def _explains_flags(entries: Iterable[Entry]) -> tuple[str, Mode] | None:
    """The metric and mode by which the flagged were better than all before them in their root."""
    roots: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry.order):
        roots[entry.parent].append(entry)
    judged: Counter[tuple[str, Mode]] = Counter()
    agreed: Counter[tuple[str, Mode]] = Counter()
    for root in roots.values():
        best: dict[tuple[str, Mode], float] = {}
        for entry in root:
            for name, value in entry.metrics.items():
                for mode in _MODES:
                    key = name, mode
                    signed = value if mode == "max" else -value
                    is_better = math.isfinite(value) and signed > best.get(key, -math.inf)
                    judged[key] += 1
                    agreed[key] += is_better is entry.is_best
                    if is_better:
                        best[key] = signed
    fitting = [key for key in judged if agreed[key] >= AGREEMENT * judged[key]]
    order = {name: i for i, name in enumerate(_by_likelihood({name for name, _ in fitting}))}

    def rank(key: tuple[str, Mode]) -> tuple[float, bool, int, int]:
        name, mode = key
        return agreed[key] / judged[key], mode == likely_mode(name), judged[key], -order[name]

    return max(fitting, key=rank, default=None)


def _likely(entries: Iterable[Entry]) -> str | None:
    names = {
        name
        for entry in entries
        for name, value in entry.metrics.items()
        if math.isfinite(value) and any(word in name.lower() for word in _LIKELY)
    }
    return next(iter(_by_likelihood(names)), None)


def _by_likelihood(names: Iterable[str]) -> list[str]:
    """The likeliest to decide first: validation before training, then as in `_LIKELY`."""

    def rank(name: str) -> tuple[bool, int, str]:
        lowered = name.lower()
        place = next((i for i, word in enumerate(_LIKELY) if word in lowered), len(_LIKELY))
        return "train" in lowered, place, name

    return sorted(names, key=rank)
