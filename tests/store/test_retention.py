"""Policies decide what to keep and say why; the newest and the protected always stay."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.store.entry import Entry
from smartcash_format.store.query import by_epoch
from smartcash_format.store.retention import (
    DropResumeState,
    KeepBest,
    KeepEvery,
    KeepFlagged,
    KeepLast,
    KeepTagged,
    KeepUnflagged,
    KeepWithin,
    Plan,
    Policy,
    plan_cleanup,
)
from tests.store.checkpoints import OTHER_RUN, START, entry

NOW = START + timedelta(days=1)
SIZE = 16_000
RESUME = 10_700


def saves(count: int, flagged: str = "", **fields: Any) -> list[Entry]:
    """Saves 1 to count; those whose number stands in `flagged` are flagged best."""
    best = {int(n) for n in flagged.split()}
    return [entry(n, is_best=n in best, **fields) for n in range(1, count + 1)]


def kept(plan: Plan) -> list[int]:
    return [found.epoch for found in plan.kept]


def survivors(policy: Policy, entries: list[Entry]) -> list[int]:
    return kept(policy.plan(entries, now=NOW))


RISING = [entry(n, metrics={"val_map": n / 10}) for n in range(1, 7)]
UNEVEN = [
    entry(1, metrics={"val_map": 0.9}),
    entry(2, metrics={"val_map": float("nan")}),
    entry(3, metrics={"val_map": 0.9}, tags=["release"]),
    entry(4, metrics={}),
    entry(5, metrics={"val_map": 0.1}),
]


@pytest.mark.parametrize(
    ("policy", "entries", "expected"),
    [
        (KeepLast(2), RISING, [5, 6]),
        (KeepLast(0), RISING, [6]),
        (KeepLast(99), RISING, [1, 2, 3, 4, 5, 6]),
        (KeepBest("val_map", mode="max"), UNEVEN, [3, 5]),
        (KeepBest("val_map", n=2, mode="max"), UNEVEN, [1, 3, 5]),
        (KeepBest("val_map", mode="min"), RISING, [1, 6]),
        (KeepBest("unknown", mode="min"), RISING, [1, 2, 3, 4, 5, 6]),
        (KeepEvery(epochs=2), RISING, [2, 4, 6]),
        (KeepEvery(epochs=4), RISING, [4, 6]),
        (KeepTagged("release"), UNEVEN, [3, 5]),
        (KeepTagged("releas"), UNEVEN, [5]),
        (KeepWithin(size_bytes=3 * SIZE), RISING, [4, 5, 6]),
        (KeepWithin(size_bytes=3 * SIZE - 1), RISING, [5, 6]),
        (KeepWithin(size_bytes=0), RISING, [6]),
        (KeepFlagged(), saves(5, "1 3"), [1, 3, 5]),
        (KeepFlagged(1), saves(5, "1 3"), [3, 5]),
        (KeepUnflagged(1), saves(5, "3 5"), [4, 5]),
        (KeepLast(1) | KeepTagged("release"), UNEVEN, [3, 5]),
        (KeepLast(2) | KeepEvery(epochs=3) | KeepBest("val_map", mode="min"), RISING, [1, 3, 5, 6]),
    ],
    ids=lambda value: repr(value) if isinstance(value, Policy) else "",
)
def test_a_policy_keeps_what_it_says_and_the_newest(
    policy: Policy, entries: list[Entry], expected: list[int]
) -> None:
    assert survivors(policy, entries) == expected
    assert survivors(policy, entries[::-1]) == expected
    assert survivors(policy, []) == []


def test_a_plan_names_every_checkpoint_oldest_first_with_its_reasons() -> None:
    plan = (KeepLast(2) | KeepEvery(epochs=3)).plan(RISING[:4], now=NOW)
    assert [(one.entry.epoch, one.action, one.reasons) for one in plan.decisions] == [
        (1, "remove", ("nothing keeps it",)),
        (2, "remove", ("nothing keeps it",)),
        (3, "keep", ("one of the last 2", "of every 3 epochs")),
        (4, "keep", ("one of the last 2", "the newest")),
    ]
    assert [found.epoch for found in plan.doomed] == [1, 2]
    assert plan.freed_bytes == 2 * SIZE


def test_a_printed_plan_is_a_line_each_that_no_terminal_obeys() -> None:
    safe = {RISING[0].checkpoint_id: "paper\x1b[2J\nremove  all"}
    plan = KeepLast(1).plan(RISING[:3], now=NOW, protected=safe)
    first, second, third = str(plan).splitlines()
    assert first == rf"keep    {RISING[0].name}  paper\x1b[2J\nremove  all"
    assert second == f"remove  {RISING[1].name}  nothing keeps it"
    assert third == f"keep    {RISING[2].name}  the newest"


@pytest.mark.parametrize(
    ("policy", "reasons"),
    [
        (KeepLast(1), ("the newest",)),
        (KeepLast(0), ("the newest",)),
        (KeepBest("val_map", mode="max"), ("the best by val_map (max)", "the newest")),
        (
            KeepBest("val_map", n=2, mode="max"),
            ("one of the best 2 by val_map (max)", "the newest"),
        ),
        (KeepFlagged(1) | KeepLast(1), ("the last flagged best", "the newest")),
        (KeepFlagged(2), ("one of the last 2 flagged best", "the newest")),
    ],
    ids=repr,
)
def test_a_reason_is_said_once_and_one_of_one_is_the_one(
    policy: Policy, reasons: tuple[str, ...]
) -> None:
    flagged = [entry(1, metrics={"val_map": 0.1}), entry(2, metrics={"val_map": 0.2}, is_best=True)]
    assert policy.plan(flagged, now=NOW).decisions[-1].reasons == reasons


def test_the_last_of_the_unflagged_is_said_so() -> None:
    plan = KeepUnflagged(1).plan(saves(3, "3"), now=NOW)
    assert plan.decisions[1].reasons == ("the last not flagged best",)


def test_every_epoch_is_kept_once_per_run_by_its_last_save() -> None:
    entries = [
        entry(1, epoch=10, step=1),
        entry(2, epoch=10, step=2),
        entry(3, epoch=10, run_id=OTHER_RUN),
        entry(4, epoch=11),
    ]
    plan = KeepEvery(epochs=10).plan(entries, now=NOW)
    assert [found.saved_at.minute for found in plan.kept] == [2, 3, 4]


def test_retention_counts_back_from_the_last_saved_not_from_the_highest_epoch() -> None:
    history = [*saves(20), entry(21, epoch=11, run_id=OTHER_RUN)]
    assert survivors(KeepLast(2), history) == [20, 11]


def test_what_is_protected_stays_and_says_why() -> None:
    plan = KeepLast(1).plan(RISING, now=NOW, protected={RISING[1].checkpoint_id: "pinned: paper"})
    assert kept(plan) == [2, 6]
    assert plan.decisions[1].reasons == ("pinned: paper",)


def test_resume_state_is_dropped_by_age_or_by_number_of_what_is_kept() -> None:
    by_age = KeepLast(4) | DropResumeState(older_than=timedelta(days=1, minutes=-5))
    plan = by_age.plan(RISING, now=NOW)
    assert [(one.entry.epoch, one.action) for one in plan.decisions] == [
        (1, "remove"),
        (2, "remove"),
        (3, "strip"),
        (4, "strip"),
        (5, "keep"),
        (6, "keep"),
    ]
    assert plan.decisions[2].reasons == (
        "one of the last 4",
        "resume state only for 23:55:00",
    )
    assert plan.freed_bytes == 2 * SIZE + 2 * RESUME
    by_number = (KeepLast(4) | DropResumeState(older_than=1)).plan(RISING, now=NOW)
    assert [found.epoch for found in by_number.stripped] == [3, 4, 5]


def test_the_newest_the_protected_and_the_bare_are_never_stripped() -> None:
    bare = entry(0, optimizer=None, scheduler=None, sizes={"model.safetensors": 5})
    protected = {RISING[0].checkpoint_id: "pinned"}
    plan = DropResumeState(older_than=0).plan(
        [bare, RISING[0], RISING[1], RISING[5]], now=NOW, protected=protected
    )
    assert [found.epoch for found in plan.stripped] == [2]
    assert kept(plan) == [0, 1, 6]


def test_dropping_resume_state_alone_removes_nothing() -> None:
    assert DropResumeState(older_than=2).plan(RISING, now=NOW).doomed == ()


@pytest.mark.parametrize(
    "build",
    [
        lambda: KeepLast(-1),
        lambda: KeepBest("val_map", n=-1, mode="max"),
        lambda: KeepBest("val_map"),
        lambda: KeepEvery(epochs=0),
        lambda: KeepWithin(size_bytes=-1),
        lambda: KeepFlagged(-1),
        lambda: KeepUnflagged(-1),
        lambda: DropResumeState(older_than=-1),
        lambda: DropResumeState(older_than=timedelta(seconds=-1)),
    ],
)
def test_a_policy_that_means_nothing_is_refused_when_it_is_made(build: Any) -> None:
    with pytest.raises(ValueError, match=r"negative|mode=|from 1 up"):
        build()


def untyped(value: object) -> Any:
    return value


@pytest.mark.parametrize(
    "build",
    [
        lambda: KeepTagged(untyped(["release", "paper"])),
        lambda: KeepTagged(untyped(None)),
        lambda: KeepBest(untyped(["val_map"]), mode="max"),
        lambda: KeepEvery(epochs=untyped(2.5)),
        lambda: KeepEvery(epochs=True),
        lambda: KeepFlagged(False),
        lambda: KeepFlagged(untyped("")),
        lambda: DropResumeState(older_than=untyped(3.0)),
        lambda: DropResumeState(older_than=untyped("3d")),
        lambda: DropResumeState(older_than=True),
        lambda: KeepLast(3) | untyped(5),
        lambda: KeepLast(3) | untyped(KeepFlagged),
    ],
)
def test_what_would_match_nothing_or_fail_at_the_first_plan_is_no_policy(build: Any) -> None:
    with pytest.raises(TypeError):
        build()


class Whole:
    """A whole number that is no int, as numpy's are."""

    def __index__(self) -> int:
        return 2


def test_any_whole_number_is_a_number_to_keep() -> None:
    two = untyped(Whole())
    drop = KeepLast(9) | DropResumeState(older_than=two)
    assert survivors(KeepLast(two), RISING) == survivors(KeepLast(2), RISING)
    assert len(drop.plan(RISING, now=NOW).stripped) == len(RISING) - 2


def test_every_epoch_is_a_multiple_of_one() -> None:
    assert KeepEvery(epochs=1).plan(RISING, now=NOW).doomed == ()


def test_an_age_of_nothing_strips_all_but_the_newest() -> None:
    found = DropResumeState(older_than=timedelta()).plan(RISING, now=NOW)
    assert len(found.stripped) == len(RISING) - 1


def test_an_age_of_more_than_all_time_strips_nothing() -> None:
    assert DropResumeState(older_than=timedelta.max).plan(RISING, now=NOW).stripped == ()


POLICIES = st.sampled_from(
    [
        KeepLast(2),
        KeepBest("val_map", n=2, mode="max"),
        KeepEvery(epochs=2),
        KeepTagged("release"),
        KeepWithin(size_bytes=2 * SIZE),
        KeepFlagged(1),
        KeepUnflagged(1),
    ]
)


@given(POLICIES, POLICIES, POLICIES, st.permutations([*RISING[3:], *UNEVEN[:3]]))
def test_a_union_keeps_exactly_what_its_parts_keep(
    one: Policy, two: Policy, three: Policy, entries: list[Entry]
) -> None:
    together = set(survivors(one | (two | three), entries))
    assert together == set(survivors(one, entries) + survivors(two, entries)) | set(
        survivors(three, entries)
    )


HISTORIES = {
    "empty": [],
    "one": saves(1),
    "flat": saves(8),
    "rising": saves(8, "1 2 3 4 5 6 7 8"),
    "mixed": saves(10, "2 5 7"),
    "forked": [*saves(6, "3"), entry(7, epoch=4, run_id=OTHER_RUN)],
}


@pytest.mark.parametrize(
    ("history", "arguments", "expected"),
    [
        ("empty", {}, []),
        ("one", {}, [1]),
        ("one", {"max_checkpoints": 0, "keep_best": False, "keep_latest": False}, [1]),
        ("flat", {}, [4, 5, 6, 7, 8]),
        ("flat", {"max_checkpoints": 2}, [7, 8]),
        ("flat", {"max_epochs": 3}, [6, 7, 8]),
        ("flat", {"max_epochs": 0}, [8]),
        ("flat", {"max_epochs": 0, "keep_latest": False}, [8]),
        ("rising", {}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ("rising", {"keep_best": False}, [4, 5, 6, 7, 8]),
        ("rising", {"keep_best": False, "max_checkpoints": 2}, [7, 8]),
        ("mixed", {}, [2, 4, 5, 6, 7, 8, 9, 10]),
        ("mixed", {"max_epochs": 1}, [2, 5, 7, 10]),
        ("mixed", {"max_checkpoints": 1}, [2, 5, 7, 10]),
        ("mixed", {"max_checkpoints": 1, "keep_best": False}, [7, 10]),
        ("mixed", {"max_checkpoints": 0, "keep_best": False}, [7, 10]),
        ("mixed", {"max_checkpoints": 2, "keep_best": False, "max_epochs": 1}, [5, 7, 10]),
        ("mixed", {"max_checkpoints": 0, "keep_best": False, "keep_latest": False}, [7, 10]),
        ("forked", {}, [2, 3, 4, 5, 6, 4]),
        ("forked", {"max_checkpoints": 1}, [3, 4]),
        ("forked", {"max_checkpoints": 2}, [3, 6, 4]),
    ],
)
def test_cleanup_keeps_flagged_newest_and_unflagged_each_by_its_own_number(
    history: str, arguments: dict[str, Any], expected: list[int]
) -> None:
    entries = HISTORIES[history]
    flagged = [found for found in entries if found.is_best]
    plan = plan_cleanup(entries, now=NOW, best=flagged[-1] if flagged else None, **arguments)
    assert kept(plan) == expected
    assert {*plan.kept, *plan.doomed} == set(entries)


def test_no_cleanup_removes_the_best_by_the_monitor() -> None:
    entries = saves(9)
    best = by_epoch(entries, 3)
    plan = plan_cleanup(entries, now=NOW, max_checkpoints=1, best=best)
    assert kept(plan) == [3, 9]


def test_no_cleanup_removes_what_is_pinned() -> None:
    entries = saves(9)
    pinned = {entries[0].checkpoint_id: "pinned: paper"}
    plan = plan_cleanup(entries, now=NOW, max_checkpoints=1, protected=pinned)
    assert kept(plan) == [1, 9]


def test_more_flagged_than_asked_for_is_a_warning_with_number_bytes_and_way_out() -> None:
    plan = plan_cleanup(saves(8, "1 2 3 4"), now=NOW, max_checkpoints=3)
    assert len(plan.warnings) == 1
    for part in ("4 checkpoints", f"{4 * SIZE:,} bytes", "max_checkpoints=3", "keep_best=False"):
        assert part in plan.warnings[0]
    assert plan_cleanup(saves(8, "1 2 3"), now=NOW, max_checkpoints=3).warnings == ()


@pytest.mark.parametrize("policy", [KeepBest("val_mpa", mode="max"), KeepLast(1)])
def test_a_metric_that_nothing_has_keeps_everything_and_warns(policy: Policy) -> None:
    joined = policy | KeepBest("val_mpa", n=2, mode="max")
    plan = joined.plan(RISING, now=NOW)
    assert kept(plan) == [1, 2, 3, 4, 5, 6]
    (warning,) = plan.warnings
    assert "did you mean 'val_map'?" in warning
    assert joined.plan([], now=NOW) == Plan()


def test_a_metric_that_is_never_finite_keeps_nothing_by_itself() -> None:
    diverged = [entry(n, metrics={"val_map": float("nan")}) for n in range(1, 4)]
    plan = KeepBest("val_map", mode="max").plan(diverged, now=NOW)
    assert (kept(plan), plan.warnings) == ([3], ())
