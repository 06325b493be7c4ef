"""Which of these entries? Filters, ranks and orders; entries in, entries out, no I/O, no clock.

What a checkpoint does not say never matches: a metric it lacks, a step it was not given, and NaN,
which is no number. The order is the order of saving, whatever order the entries come in.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, Literal, SupportsIndex, TypedDict

from smartcash_format.spec.flags import flag
from smartcash_format.spec.sizes import parse_size
from smartcash_format.spec.spelling import format_time
from smartcash_format.store.entry import Entry

Mode = Literal["min", "max"]
Value = str | int | float | bool | None
Condition = Callable[[int | float | None], bool]

_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_NUMBER: Final = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?"
_CONDITION: Final = re.compile(rf"\s*(>=|<=|==|!=|>|<)\s*({_NUMBER})\s*")
_WHERE: Final = re.compile(r"\s*([^\s<>=!][^<>=!]*?)\s*(>=|<=|==|!=|=|>|<)\s*(.*?)\s*", re.DOTALL)
# The format's spelling of a time, as far as it is given.
_PART_OF_TIME: Final = re.compile(
    r"[0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2}(?:T[0-9]{2}(?::[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)?)?)?)?Z?"
)
_FIRST_MOMENT: Final = "0001-01-01T00:00:00.000000"
METRICS: Final = "metrics."
# How many metrics a sentence names.
_NAMED: Final = 8
_FIELDS: Final[Mapping[str, Callable[[Entry], Value]]] = {
    "name": lambda entry: entry.name,
    "checkpoint_id": lambda entry: entry.checkpoint_id,
    "run_id": lambda entry: entry.run_id,
    "parent_id": lambda entry: entry.parent_id,
    "saved_at": lambda entry: entry.saved_at_text,
    "epoch": lambda entry: entry.epoch,
    "step": lambda entry: entry.step,
    "is_best": lambda entry: entry.is_best,
    "backbone": lambda entry: entry.backbone,
    "dataset": lambda entry: entry.dataset,
    "size_bytes": lambda entry: entry.size_bytes,
    "has_optimizer": lambda entry: entry.has_optimizer,
}
_FLAGS: Final = {"true": True, "false": False}


class Criteria(TypedDict, total=False):
    """What `filter_entries` filters by, to be passed on by name."""

    backbone: str | None
    dataset: str | None
    min_epoch: int | None
    max_epoch: int | None
    is_best: bool | None
    tags: str | Iterable[str] | None
    metrics: Mapping[str, str] | None
    since: date | str | None
    until: date | str | None
    where: Callable[[Entry], bool] | None


def filter_entries(
    entries: Iterable[Entry],
    *,
    backbone: str | None = None,
    dataset: str | None = None,
    min_epoch: int | None = None,
    max_epoch: int | None = None,
    is_best: bool | None = None,
    tags: str | Iterable[str] | None = None,
    metrics: Mapping[str, str] | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    where: Callable[[Entry], bool] | None = None,
) -> list[Entry]:
    """The entries that meet every criterion given, in the order they come; none given: all.

    Text is compared exactly. min, max, since and until are inclusive; a time is a datetime or ISO
    8601 text, and a date alone means its first moment in UTC for `since` and its last for `until`.
    An entry has to bear all `tags`. `metrics` maps names to conditions such as `">=0.5"`.

    Raises ValueError for a condition or a time that has no such form, TypeError for what is of
    another type: nothing would match it.
    """
    if is_best is not None:
        is_best = flag(is_best, "is_best")
    if not isinstance(metrics, Mapping | None):
        raise TypeError(
            f"metrics is {metrics!r:.80}; it is a dict from names to conditions, such as "
            '{"val_map": ">=0.5"}'
        )
    wanted = {tags} if isinstance(tags, str) else set(tags or ())
    conditions = [(name, condition(name, text)) for name, text in (metrics or {}).items()]
    first = None if since is None else _moment(since, "since")
    last = None if until is None else _moment(until, "until")
    found = [
        entry
        for entry in entries
        if (backbone is None or entry.backbone == backbone)
        and (dataset is None or entry.dataset == dataset)
        and (min_epoch is None or entry.epoch >= min_epoch)
        and (max_epoch is None or entry.epoch <= max_epoch)
        and (is_best is None or entry.is_best is is_best)
        and (not wanted or wanted.issubset(entry.tags))
        and (first is None or entry.saved_at_text >= first)
        and (last is None or entry.saved_at_text <= last)
    ]
    for name, holds in conditions:
        found = [entry for entry in found if holds(entry.metric(name))]
    return found if where is None else [entry for entry in found if where(entry)]


def best(
    entries: Iterable[Entry], metric: str | None = None, mode: Mode | None = None
) -> Entry | None:
    """The entry whose metric is smallest or largest; without a metric the last one flagged best.

    Only finite values rank; ties go to the later. None when nothing ranks. Raises ValueError when
    a metric comes without its mode, or a mode without its metric.
    """
    if metric is None and mode is None:
        return latest(entry for entry in entries if entry.is_best)
    # No pairs of value and entry: of thousands the collector would look at each.
    found = list(entries)
    values = _finite_values(found, metric, mode)
    first = (max if mode == "max" else min)((v for v in values if v is not None), default=None)
    if first is None:
        return None
    return latest(entry for entry, value in zip(found, values, strict=True) if value == first)


def ranked(entries: Iterable[Entry], metric: str | None, mode: Mode | None) -> list[Entry]:
    """The entries with a finite value of the metric, best first; ties the later first."""
    sign = 1 if mode == "max" else -1
    found = list(entries)
    values = _finite_values(found, metric, mode)
    pairs = [(v, e) for v, e in zip(values, found, strict=True) if v is not None]
    pairs.sort(key=lambda pair: (sign * pair[0], pair[1].order), reverse=True)
    return [entry for _, entry in pairs]


def _finite_values(
    entries: Iterable[Entry], metric: str | None, mode: str | None
) -> list[int | float | None]:
    """The value of each entry's metric, None where it is not finite or not there."""
    if metric is None or mode not in ("min", "max"):
        given = "" if mode is None or metric is None else f", not mode={mode!r:.80}"
        raise ValueError(
            f"a metric is ranked by its mode: metric='val_map', mode='max' (or mode='min'){given}"
        )
    values = (entry.metric(metric) for entry in entries)
    return [value if value is not None and math.isfinite(value) else None for value in values]


def latest(entries: Iterable[Entry]) -> Entry | None:
    """The last one saved; None when there is none."""
    return max(entries, key=lambda entry: entry.order, default=None)


def by_epoch(entries: Iterable[Entry], epoch: int) -> Entry | None:
    """The last one saved of this epoch; None when there is none.

    Raises TypeError for what is no whole number: it would just be absent.
    """
    if isinstance(epoch, bool) or not isinstance(epoch, SupportsIndex):
        raise TypeError(f"epoch is a whole number, not {type(epoch).__name__}")
    return latest(entry for entry in entries if entry.epoch == epoch)


def nearest_metric(entries: Iterable[Entry], name: str) -> str:
    """The metric of these entries that is spelled most like `name`; "" when none is like it."""
    known = {metric for entry in entries for metric in entry.metrics}
    if name in known:
        return name
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1)), "")


def unknown_metric(entries: Iterable[Entry], name: str) -> str:
    """A sentence when there are entries and none has the metric, with the one that may be meant.

    "" when one has it, whatever its value is, or when there is no entry.
    """
    found = list(entries)
    near = nearest_metric(found, name)
    if not found or near == name:
        return ""
    known = sorted({metric for entry in found for metric in entry.metrics})
    hint = f"did you mean {near!r}?" if near else f"they have {some(known) or 'no metrics'}"
    return f"no checkpoint has the metric {name!r}; {hint}"


def some(names: Sequence[str]) -> str:
    """The first of these names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more


def condition(name: str, text: object) -> Condition:
    """What a text such as ">=0.5" asks of a metric. Raises ValueError that shows the form."""
    match = _CONDITION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            f"the condition of metric {name!r} is {text!r}; it is an operator and a number, such "
            'as ">=0.5" (>=, <=, >, <, ==, !=)'
        )
    compare = _COMPARE[match[1]]
    bound = _number(match[2])
    return lambda value: value is not None and compare(value, bound) and not math.isnan(value)


@dataclass(frozen=True, slots=True)
class Where:
    """One comparison of a field, such as `metrics.val_map>=0.5`; calling it asks an entry."""

    field: str
    operator: str
    value: str

    def __call__(self, entry: Entry) -> bool:
        if self.field == "tags":
            return (self.value in entry.tags) is (self.operator == "==")
        found = field_value(entry, self.field)
        if found is None:
            return False
        compare = _COMPARE[self.operator]
        if isinstance(found, str):
            asked = self.value
            if self.field == "saved_at":
                asked = asked.removesuffix("Z")
                found = found[: len(asked)]
            elif self.field.endswith("_id") and asked:  # tables show the first eight of them
                found = found[: len(asked)]
            return compare((found > asked) - (found < asked), 0)
        if isinstance(found, bool):
            return compare(found, _FLAGS[self.value])
        bound = _size(self.value) if self.field == "size_bytes" else _number(self.value)
        return not math.isnan(found) and compare(found, bound)

    def __str__(self) -> str:
        return f"{self.field}{self.operator}{self.value}"


def parse_where(text: str) -> Where:
    """The comparison that a text such as `epoch>=5` or `backbone=efficientnet_b4` asks for.

    The fields are `fields()` and `tags`. A time or an id is compared as far as it is given; a size
    is a number of bytes, or text such as 500MB. Raises ValueError that shows the form, the fields,
    or what kind of value the field has.
    """
    match = _WHERE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is no comparison; it is FIELD OPERATOR VALUE, such as epoch>=5, "
            "backbone=efficientnet_b4 or metrics.val_map>=0.5; quote it for a shell, which takes > "
            "and < for itself"
        )
    field, sign, value = match[1], "==" if match[2] == "=" else match[2], match[3]
    _check_where(text, field, sign, value)
    return Where(field, sign, value)


def _check_where(text: str, field: str, sign: str, value: str) -> None:
    needs_number = field.startswith(METRICS) or field in ("epoch", "step", "size_bytes")
    known = (*fields(), "tags")
    if field == METRICS or (not needs_number and field not in known):
        near = difflib.get_close_matches(field, known, n=1)
        hint = f"did you mean {near[0]}?" if near else _fields_hint(field, known)
        raise ValueError(f"{text!r}: there is no field {field!r}; {hint}")
    if field == "saved_at" and not _is_part_of_time(value):
        raise ValueError(
            f"{text!r}: saved_at is compared with a time in UTC, such as 2026-01-31 or "
            f"2026-01-31T12:00, not with {value!r}"
        )
    if field == "size_bytes":
        _size(value)
    elif needs_number and re.fullmatch(_NUMBER, value) is None:
        raise ValueError(f"{text!r}: {field} is compared with a number, not with {value!r}")
    equality = sign in ("==", "!=")
    if field in ("is_best", "has_optimizer") and not (equality and value in _FLAGS):
        raise ValueError(f"{text!r}: {field} is asked as {field}=true or {field}=false")
    if field == "tags" and not equality:
        raise ValueError(f"{text!r}: a tag is asked for as tags=release or tags!=release")


def _is_part_of_time(text: str) -> bool:
    """Whether a time begins like this; of a day or an hour that is none nothing would be said."""
    if _PART_OF_TIME.fullmatch(text) is None:
        return False
    given = text.removesuffix("Z")
    try:
        datetime.fromisoformat(given + _FIRST_MOMENT[len(given) :])
    except ValueError:
        return False
    return True


def _fields_hint(name: str, known: Iterable[str]) -> str:
    """What can be asked; a name that is no field is often a metric's."""
    return f"fields: {', '.join(known)}; a metric is asked for as {METRICS}{name}"


def fields() -> tuple[str, ...]:
    """The fields that entries are compared and sorted by."""
    return (*_FIELDS, "metrics.<name>")


def field_value(entry: Entry, field: str) -> Value:
    """What an entry says in a field; None when it says nothing. Raises ValueError for no field."""
    if field.startswith(METRICS):
        return entry.metric(field.removeprefix(METRICS))
    getter = _FIELDS.get(field)
    if getter is None:
        raise ValueError(f"there is no field {field!r}; {_fields_hint(field, fields())}")
    return getter(entry)


def sort_entries(entries: Iterable[Entry], by: str = "-saved_at") -> list[Entry]:
    """The entries ordered by a field, ascending, or descending with `-` in front.

    What an entry does not say, and NaN, comes last either way; ties are newest first. Raises
    ValueError for a field that is none.
    """
    descending = by.startswith("-")
    field = by.removeprefix("-")
    newest = sorted(entries, key=lambda entry: entry.order, reverse=True)
    if field == "saved_at":
        return newest if descending else newest[::-1]
    keyed = [(field_value(entry, field), entry) for entry in newest]
    known = [(value, entry) for value, entry in keyed if _sortable(value)]
    known.sort(key=lambda pair: pair[0], reverse=descending)  # type: ignore[arg-type, return-value]
    unknown = [entry for value, entry in keyed if not _sortable(value)]
    return [entry for _, entry in known] + unknown


def _sortable(value: Value) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _number(text: str) -> int | float:
    # Whole numbers stay whole: a float would blur sizes and steps beyond 2**53.
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def _size(text: str) -> int | float:
    return _number(text) if re.fullmatch(_NUMBER, text) else parse_size(text)


def _moment(given: date | str, name: str) -> str:
    """The instant as the format writes it: such texts sort as the instants do."""
    if not isinstance(given, date | str):
        raise TypeError(f"{name} is {given!r:.80}; it is a datetime, a date or a text of one")
    if isinstance(given, datetime):
        if given.tzinfo is None:
            raise ValueError(f"{name} has no time zone; give datetime(..., tzinfo=UTC)")
        return format_time(given)
    given = str(given)  # of a date this is ISO 8601
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        raise ValueError(
            f"{name} is {given!r}; it is a date or a time such as 2026-01-31 or 2026-01-31T12:00Z"
        ) from None
    if re.fullmatch(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}", given) and name == "until":
        moment = moment.replace(hour=23, minute=59, second=59, microsecond=999_999)
    return format_time(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
