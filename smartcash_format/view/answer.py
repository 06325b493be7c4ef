"""Which checkpoint to use, by which metric, and how far it is ahead: the first line of a report."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from smartcash_format.store import query
from smartcash_format.store.entry import Entry
from smartcash_format.store.query import Mode
from smartcash_format.view import words

# Flags of a training whose earlier checkpoints were pruned agree a little less than always.
AGREEMENT: Final = 0.9
# Of one flagged checkpoint alone every metric could be the reason.
FLAGS: Final = 2
# A share below it would be shown as nothing.
_LEAST_SHARE: Final = 0.001
# How many metrics a sentence names.
_NAMED: Final = 4
_MODES: Final[tuple[Mode, Mode]] = ("max", "min")
# What is better when it is smaller, told by its name; a short word only where it stands alone.
_SMALLER: Final = re.compile(
    r"loss|error|perplexity|\b(?:err|mae|mape|r?mse|nll|ppl|[cw]er|fid)[0-9]*\b"
)
# What people choose by, the likeliest first, where nothing else says it: all that a name tells.
_LIKELY: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"\bmap ?50 95\b",
        r"\bmap[0-9]*\b",
        r"\bf1",
        r"accuracy|\bacc[0-9]*\b",
        r"\bauc\b|\bauroc\b",
        r"\bm?iou[0-9]*\b",
        r"\bdice\b",
        r"\bap[0-9]*\b|\bfitness\b|\b(?:bleu|rouge|psnr|ssim|ndcg|mrr)[0-9]*\b",
        r"\b(?:r2|score|reward)\b",
        r"loss",
        r"\bprecision\b|\brecall\b",
        _SMALLER.pattern,
    )
)
# What a training notes of itself: it falls or rises as a best metric does, and decides nothing.
_BESIDE: Final = re.compile(
    r"\b(?:lr[0-9]*|learning rate|momentum|weight decay|epochs?|steps?|iter|iterations?"
    r"|e?time|seconds|secs?|hours?|minutes|eta|duration|norms?|memory|mem|bytes|gpu|vram"
    r"|throughput|speed|samples|tokens|images|params|parameters|count)\b"
)
# Measured on what was not trained on; a bare "loss" most often is the training's.
_HELD_OUT: Final = re.compile(r"\b(?:val|valid|validation|eval|test|dev)")
_HUMP: Final = re.compile(r"(?<=[a-z]{2})(?=[A-Z])")
_GAP: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The checkpoint to use, what decided, and those that it is compared with.

    `entry` is None when there is no checkpoint. `metric` is None when no metric decided; `why`
    says what did. `next` is the second by the metric, `last` the newest. `ranked` of the `of`
    checkpoints have a number in the metric.
    """

    entry: Entry | None
    why: str
    metric: str | None = None
    mode: Mode | None = None
    next: Entry | None = None
    last: Entry | None = None
    ranked: int = 0
    of: int = 0

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
        if self.last is not None and is_same(self.last, self.entry):
            said.append("It is also the newest.")
        elif self.last is not None:
            said.append(self._ahead(self.last, "the newest"))
        if self.ranked < self.of:
            said.append(f"{self.ranked} of {self.of} checkpoints have a number in it.")
        return (*said, self.why) if self.why else tuple(said)

    def _ahead(self, other: Entry, who: str) -> str:
        assert self.entry is not None
        assert self.metric is not None
        mine, its = self.entry.metrics[self.metric], other.metric(self.metric)
        is_near = other.epoch == self.entry.epoch and other.step is not None
        where = f"{who} (epoch {other.epoch}{f', step {other.step}' if is_near else ''})"
        if its is None or math.isnan(its):
            return f"For {where} it is {'NaN' if its is not None else 'not known'}."
        distance = abs(mine - its)
        if distance == 0:
            return f"Level with {where}."
        return f"{words.number(distance)} ahead of {where}{_share(distance, its)}."


def _share(distance: float, of: float) -> str:
    if not of or not math.isfinite(of):
        return ""
    share = distance / abs(of)
    return f", {share:.1%}" if share >= _LEAST_SHARE else f", less than {_LEAST_SHARE:.1%}"


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
    if flagged is not None:
        return _by_flags(entries, flagged, newest)
    likely = _likely(entries)
    if likely is not None:
        why = "Nothing says what decides: the metric was guessed by its name."
        chosen = _by(entries, likely, likely_mode(likely), why)
        if chosen is not None:
            return chosen
    names = by_likelihood(
        {n for entry in entries for n, value in entry.metrics.items() if math.isfinite(value)}
    )
    is_measured = any(entry.metrics for entry in entries)
    what = f"and none has a metric{' that is a finite number' if is_measured else ''}"
    if names:
        some = ", ".join(words.harmless(name, 40) for name in names[:_NAMED])
        more = ", …" if len(names) > _NAMED else ""
        what = f"and no metric's name says whether larger or smaller is better ({some}{more})"
    why = f"The newest: none is flagged best, {what}."
    return Answer(entry=newest, last=newest, why=why)


def likely_mode(metric: str) -> Mode | None:
    """Which end of a metric of this name is good; None where the name does not say it."""
    spelled = _spelled(metric)
    if _SMALLER.search(spelled):
        return "min"
    return "max" if _place(metric) < len(_LIKELY) else None


def by_likelihood(names: Iterable[str]) -> list[str]:
    """The likeliest to decide first: validation before training, what decides nothing last."""
    return sorted(names, key=lambda name: (*_likelihood(name), name))


def is_same(one: Entry, other: Entry) -> bool:
    """Whether two entries are the same save: one a copy of the other, or stripped from it."""
    return not identity(one).isdisjoint(identity(other))


def identity(entry: Entry) -> frozenset[str]:
    """The ids that the save of an entry goes by."""
    return frozenset(each for each in (entry.checkpoint_id, entry.derived_from) if each)


def _by(entries: Sequence[Entry], metric: str, mode: Mode | None, why: str) -> Answer | None:
    ranked = query.ranked(entries, metric, mode)
    if not ranked:
        return None
    return Answer(
        entry=ranked[0],
        metric=metric,
        mode=mode,
        next=next((each for each in ranked if not is_same(each, ranked[0])), None),
        last=query.latest(entries),
        ranked=len(ranked),
        of=len(entries),
        why=why,
    )


def _by_flags(entries: Sequence[Entry], flagged: Entry, newest: Entry) -> Answer:
    """By the metric that the flags go by; where none is certain, the last one flagged."""
    found, is_certain = _explains_flags(entries)
    if found is not None:
        why = "The checkpoints were flagged best by this metric."
        if not is_certain:
            why = "It was flagged best when it was saved; the metric was guessed by its name."
        chosen = _by(entries, *found, why)
        if chosen is not None and (is_certain or chosen.entry == flagged):
            return chosen
    why = "The last one that was flagged best when it was saved."
    return Answer(entry=flagged, last=newest, why=why)


def _explains_flags(entries: Iterable[Entry]) -> tuple[tuple[str, Mode] | None, bool]:
    """The metric and mode by which the flagged were better than all before them in their root.

    And whether that is more than a guess (`_is_certain`).
    """
    names = sorted({name for entry in entries for name in entry.metrics})
    roots: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry.order):
        roots[entry.parent].append(entry)
    found = {(name, mode): _judged(roots.values(), name, mode) for name in names for mode in _MODES}
    fitting = [key for key, each in found.items() if each.agreed >= AGREEMENT * each.judged]
    certain = [key for key in fitting if _is_certain(*key, found[key])]
    guessed = [
        (name, mode)
        for name, mode in fitting
        if found[name, mode].flags and mode == likely_mode(name)
    ]
    order = {name: i for i, name in enumerate(by_likelihood(names))}

    def rank(key: tuple[str, Mode]) -> tuple[float, bool, int, int]:
        name, mode = key
        agreed, judged, _ = found[key]
        return agreed / judged, mode == likely_mode(name), judged, -order[name]

    return max(certain or guessed, key=rank, default=None), bool(certain)


class _Judged(NamedTuple):
    """How many checkpoints a metric says something of, and how many as their flags do."""

    agreed: int
    judged: int
    flags: int


def _is_certain(name: str, mode: Mode, judged: _Judged) -> bool:
    """Whether flags were given by this metric, not only in step with it.

    Where its name does not say that this end is good, it has to tell the flagged from others too:
    with every checkpoint flagged, whatever only rises or falls would explain them.
    """
    if judged.flags < FLAGS or _is_beside(name):
        return False
    return mode == likely_mode(name) or judged.judged > judged.flags


def _judged(roots: Iterable[Sequence[Entry]], name: str, mode: Mode) -> _Judged:
    agreed = judged = flags = 0
    for root in roots:
        best = -math.inf
        for entry in root:
            value = entry.metric(name)
            if value is None and not entry.is_best:
                continue
            # A flag on a checkpoint that lacks the metric was not given by it.
            signed = math.nan if value is None else value if mode == "max" else -value
            is_better = math.isfinite(signed) and signed > best
            judged += 1
            agreed += is_better is entry.is_best
            flags += is_better and entry.is_best
            best = signed if is_better else best
    return _Judged(agreed, judged, flags)


def _likely(entries: Iterable[Entry]) -> str | None:
    names = {
        name
        for entry in entries
        for name, value in entry.metrics.items()
        if math.isfinite(value) and likely_mode(name) is not None
    }
    return next(iter(by_likelihood(names)), None)


def _likelihood(name: str) -> tuple[bool, bool, int, bool]:
    spelled = _spelled(name)
    is_held_out = _HELD_OUT.search(spelled) is not None
    return _is_beside(name), "train" in spelled, _place(name), not is_held_out


def _is_beside(name: str) -> bool:
    """Whether a metric only tells how the training went along."""
    return likely_mode(name) is None and _BESIDE.search(_spelled(name)) is not None


def _place(name: str) -> int:
    spelled = _spelled(name)
    return next((i for i, word in enumerate(_LIKELY) if word.search(spelled)), len(_LIKELY))


def _spelled(name: str) -> str:
    """A metric's words in small letters, apart: `val_mAP50-95` and `valLoss` alike."""
    return _GAP.sub(" ", _HUMP.sub(" ", name).lower())
