"""What to keep: policies as small values that compose, and a plan that gives its reasons.

`KeepLast(3) | KeepBest("val_map", n=2, mode="max")` keeps what either keeps. A policy decides and
touches nothing: entries, the time and what is protected come in, a plan comes out.

Whatever the policy: the newest checkpoint of each root stays, so that a training can always be
resumed; what is protected stays and is not stripped; and what cannot be read is in no listing, so
in no plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, SupportsIndex

from smartcash_format.spec.harmless import harmless
from smartcash_format.store import query
from smartcash_format.store.entry import Entry
from smartcash_format.store.query import Mode, ranked

Action = Literal["keep", "strip", "remove"]
# Which of the entries, newest first, and why.
Reasons = Mapping[Entry, str]
_NEWEST: Final = "the newest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a plan does with one checkpoint, and why."""

    entry: Entry
    action: Action
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a policy decided: one decision for each checkpoint, oldest first."""

    decisions: tuple[Decision, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[Entry, ...]:
        """What stays as it is, oldest first."""
        return self._with("keep")

    @property
    def stripped(self) -> tuple[Entry, ...]:
        """What loses its optimizer, scheduler and extra state, oldest first."""
        return self._with("strip")

    @property
    def doomed(self) -> tuple[Entry, ...]:
        """What goes, oldest first."""
        return self._with("remove")

    @property
    def freed_bytes(self) -> int:
        """What the plan frees at most: bytes shared by hard links are freed with the last one."""
        return sum(entry.size_bytes for entry in self.doomed) + sum(
            entry.resume_bytes for entry in self.stripped
        )

    def __str__(self) -> str:
        return "\n".join(
            f"{one.action:6}  {harmless(one.entry.name)}  {harmless(', '.join(one.reasons))}"
            for one in self.decisions
        )

    def _with(self, action: Action) -> tuple[Entry, ...]:
        return tuple(one.entry for one in self.decisions if one.action == action)


class Policy:
    """What to keep of a root; policies join with `|` to one that keeps what either keeps."""

    __slots__ = ()

    def keeps(self, entries: Sequence[Entry]) -> Reasons:
        """Which of the entries, newest first, this keeps, and why."""
        raise NotImplementedError

    def drops_resume_state(self, entries: Sequence[Entry], now: datetime) -> Reasons:
        """Which of the entries, newest first, this strips when they are kept, and why."""
        return {}

    def warnings(self, entries: Sequence[Entry]) -> tuple[str, ...]:
        """What a person should know before this is applied to the entries, newest first."""
        return ()

    def __or__(self, other: Policy) -> Policy:
        if not isinstance(other, Policy):
            return NotImplemented
        return _Union(parts=(*_parts(self), *_parts(other)))

    def plan(
        self,
        entries: Iterable[Entry],
        *,
        now: datetime,
        protected: Mapping[str, str] | None = None,
    ) -> Plan:
        """What becomes of each entry. `now` is aware.

        `protected` maps checkpoint ids to the reason why this plan leaves them alone: pins, and
        what was just published.
        """
        newest_first = sorted(entries, key=lambda entry: entry.order, reverse=True)
        safe = {} if protected is None else protected
        parts = _parts(self)
        kept = [part.keeps(newest_first) for part in parts]
        if all(isinstance(part, DropResumeState) for part in parts):
            kept = [dict.fromkeys(newest_first, "no policy removes")]
        strips = [part.drops_resume_state(newest_first, now) for part in parts]
        # Of a tree each root has its own: no training is left without what it goes on from.
        newest = {entry.parent: entry for entry in reversed(newest_first)}
        decisions = [
            _decide(
                entry, entry is newest[entry.parent], safe.get(entry.checkpoint_id), kept, strips
            )
            for entry in reversed(newest_first)
        ]
        warnings = [warning for part in parts for warning in part.warnings(newest_first)]
        return Plan(decisions=tuple(decisions), warnings=tuple(dict.fromkeys(warnings)))


def _decide(
    entry: Entry,
    is_newest: bool,
    protection: str | None,
    kept: Sequence[Reasons],
    strips: Sequence[Reasons],
) -> Decision:
    reasons = [] if protection is None else [protection]
    reasons += [found[entry] for found in kept if entry in found]
    if is_newest and _NEWEST not in reasons:
        reasons.append(_NEWEST)
    if not reasons:
        return Decision(entry=entry, action="remove", reasons=("nothing keeps it",))
    drop = [found[entry] for found in strips if entry in found]
    if drop and entry.resume_bytes and protection is None and not is_newest:
        return Decision(entry=entry, action="strip", reasons=(*reasons, *drop))
    return Decision(entry=entry, action="keep", reasons=tuple(reasons))


def _parts(policy: Policy) -> tuple[Policy, ...]:
    return policy.parts if isinstance(policy, _Union) else (policy,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Union(Policy):
    parts: tuple[Policy, ...]

    def keeps(self, entries: Sequence[Entry]) -> Reasons:
        return {entry: why for part in self.parts for entry, why in part.keeps(entries).items()}

    def warnings(self, entries: Sequence[Entry]) -> tuple[str, ...]:
        return tuple(warning for part in self.parts for warning in part.warnings(entries))

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.parts))


@dataclass(frozen=True, slots=True)
class KeepLast(Policy):
    """Keeps the last `n` saved."""

    n: int

    def __post_init__(self) -> None:
        _check_count(self.n)

    def keeps(self, entries: Sequence[Entry]) -> Reasons:
        return dict.fromkeys(entries[: self.n], _NEWEST if self.n == 1 else _of(self.n, "last"))


@dataclass(frozen=True, slots=True)
class KeepBest(Policy):
    """Keeps the `n` best by a metric; only finite values rank, of equals the later is better.

    A metric that no checkpoint has is more likely a slip than a wish: then it keeps everything, and
    warns.
    """

    metric: str
    n: int = 1
    mode: Mode | None = None

    def __post_init__(self) -> None:
        _check_count(self.n)
        _check_text(self.metric, 'a metric has one name: KeepBest("a", ...) | KeepBest("b", ...)')
        ranked((), self.metric, self.mode)

    def keeps(self, entries: Sequence[Entry]) -> Reasons:
        if query.unknown_metric(entries, self.metric):
            return dict.fromkeys(entries, f"no checkpoint has {self.metric}, so none is the best")
        why = f"{_of(self.n, 'best')} by {self.metric} ({self.mode})"
        return dict.fromkeys(ranked(entries, self.metric, self.mode)[: self.n], why)

    def warnings(self, entries: Sequence[Entry]) -> tuple[str, ...]:
        unknown = query.unknown_metric(entries, self.metric)
        return (f"everything is kept: {unknown}",) if unknown else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepEvery(Policy):
    """Keeps each run's last save of every epoch that is a multiple of `epochs`."""

    epochs: int

    def __post_init__(self) -> None:
        _check_count(self.epochs)
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}; it counts from 1 up")

    def keeps(self, entries: Sequence[Entry]) -> Reasons:
        last: dict[tuple[str, int], Entry] = {}
        for entry in entries:
            if entry.epoch % self.epochs == 0:
                last.setdefault((entry.run_id, entry.epoch), entry)
        return dict.fromkeys(last.values(), f"of every {self.epochs} epochs")


@dataclass(frozen=True, slots=True)
class KeepTagged(Policy):
    """Keeps whatever bears a tag."""

    tag: str

    def __post_init__(self) -> None:
        _check_text(self.tag, 'each tag has a policy: KeepTagged("a") | KeepTagged("b")')

    def keeps(self, entries: Sequence[Entry]) -> Reasons:
        tagged = [entry for entry in entries if self.tag in entry.tags]
        return dict.fromkeys(tagged, f"tagged {self.tag!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepWithin(Policy):
    """Keeps the last saved, as many as fit into `size_bytes` together."""

    size_bytes: int

    def __post_init__(self) -> None:
        _check_count(self.size_bytes)

    def keeps(self, entries: Sequence[Entry]) -> Reasons:
        fitting = []
        total = 0
        for entry in entries:
            total += entry.size_bytes
            if total > self.size_bytes:
                break
            fitting.append(entry)
        return dict.fromkeys(fitting, f"the last that fit into {self.size_bytes:,} bytes")


@dataclass(frozen=True, slots=True)
class KeepFlagged(Policy):
    """Keeps those flagged is_best when they were saved; with `n` the last `n` of them."""

    n: int | None = None

    def __post_init__(self) -> None:
        if self.n is not None:
            _check_count(self.n)

    def keeps(self, entries: Sequence[Entry]) -> Reasons:
        why = "flagged best" if self.n is None else f"{_of(self.n, 'last')} flagged best"
        return dict.fromkeys([entry for entry in entries if entry.is_best][: self.n], why)


@dataclass(frozen=True, slots=True)
class KeepUnflagged(Policy):
    """Keeps the last `n` of those not flagged is_best."""

    n: int

    def __post_init__(self) -> None:
        _check_count(self.n)

    def keeps(self, entries: Sequence[Entry]) -> Reasons:
        unflagged = [entry for entry in entries if not entry.is_best]
        return dict.fromkeys(unflagged[: self.n], f"{_of(self.n, 'last')} not flagged best")


@dataclass(frozen=True, slots=True, kw_only=True)
class DropResumeState(Policy):
    """Strips what is kept and older than this: optimizer, scheduler and extra state go.

    `older_than` is an age, or a number: older than that many checkpoints. By itself it removes
    nothing.
    """

    older_than: timedelta | int

    def __post_init__(self) -> None:
        if not isinstance(self.older_than, timedelta):
            _check_count(self.older_than)
        elif self.older_than < timedelta():
            raise ValueError(f"older_than is {self.older_than}; an age is not negative")

    def keeps(self, entries: Sequence[Entry]) -> Reasons:
        return {}

    def drops_resume_state(self, entries: Sequence[Entry], now: datetime) -> Reasons:
        age = self.older_than
        if not isinstance(age, timedelta):
            return dict.fromkeys(entries[age:], f"resume state only in the last {age}")
        # The difference of two times has room for any age; a time less an age has not.
        older = [entry for entry in entries if now - entry.saved_at > age]
        return dict.fromkeys(older, f"resume state only for {age}")


def plan_cleanup(
    entries: Iterable[Entry],
    *,
    now: datetime,
    max_checkpoints: int = 5,
    keep_best: bool = True,
    keep_latest: bool = True,
    max_epochs: int | None = None,
    best: Entry | None = None,
    protected: Mapping[str, str] | None = None,
) -> Plan:
    """The seed's cleanup as a plan: flagged, newest and unflagged ones, each with its own number.

    Keeps every flagged checkpoint (`keep_best=False`: the last `max_checkpoints` of them), the
    newest, the last `max_epochs` of the unflagged (None: `max_checkpoints`), and `best`, which is
    what find_best_checkpoint() returns. Warns when the flagged alone exceed `max_checkpoints`.
    """
    found = list(entries)
    policy: Policy = KeepFlagged(None if keep_best else max_checkpoints)
    policy |= KeepUnflagged(max_checkpoints if max_epochs is None else max_epochs)
    if keep_latest:
        policy |= KeepLast(1)
    safe = dict(protected or {})
    if best is not None:
        safe.setdefault(best.checkpoint_id, "the best")
    plan = policy.plan(found, now=now, protected=safe)
    flagged = [entry for entry in found if entry.is_best]
    if not keep_best or len(flagged) <= max_checkpoints:
        return plan
    size_bytes = sum(entry.size_bytes for entry in flagged)
    warning = (
        f"{len(flagged)} checkpoints are flagged best and stay ({size_bytes:,} bytes), more than "
        f"max_checkpoints={max_checkpoints}; keep_best=False keeps the last of them only"
    )
    return Plan(decisions=plan.decisions, warnings=(*plan.warnings, warning))


def _of(count: int, which: str) -> str:
    return f"the {which}" if count == 1 else f"one of the {which} {count}"


def _check_count(count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, SupportsIndex):
        raise TypeError(f"{count!r:.80} is {type(count).__name__}; a number to keep is whole")
    if count.__index__() < 0:
        raise ValueError(f"{count} is negative; a number to keep is 0 or more")


def _check_text(value: object, hint: str) -> None:
    # What is no text matches nothing, and a policy that matches nothing lets everything go.
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is {type(value).__name__}; {hint}")
