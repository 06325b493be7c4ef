"""Branches are told apart by who came from whom."""

from __future__ import annotations

from typing import Any

from smartcash_format.store.entry import Entry
from smartcash_format.store.lineage import ancestors, lineage
from tests.store.checkpoints import OTHER_RUN, RUN, entry, identifier


def chain(numbers: range, first_parent: int | None = None, **fields: Any) -> list[Entry]:
    """Saves one after the other, the first of them from `first_parent`."""
    parents = [first_parent, *numbers[:-1]]
    return [
        entry(number, parent_id=None if parent is None else identifier(parent), **fields)
        for number, parent in zip(numbers, parents, strict=True)
    ]


def shape(branches: Any) -> list[tuple[list[int], int | None, bool]]:
    return [
        (
            [found.epoch for found in branch.entries],
            branch.forked_from.epoch if branch.forked_from else None,
            branch.is_current,
        )
        for branch in branches
    ]


TRUNK = chain(range(1, 21))


def test_nothing_has_no_branches() -> None:
    assert lineage([]) == ()


def test_one_run_is_one_branch() -> None:
    assert shape(lineage(TRUNK[::-1])) == [(list(range(1, 21)), None, True)]


def test_a_resume_from_epoch_10_of_20_is_a_branch_of_its_own() -> None:
    resumed = chain(range(21, 24), first_parent=10, run_id=OTHER_RUN)
    assert shape(lineage([*resumed, *TRUNK])) == [
        (list(range(1, 21)), None, False),
        ([21, 22, 23], 10, True),
    ]


def test_a_resume_from_the_end_goes_on_with_the_branch_and_a_second_one_forks() -> None:
    first = chain(range(21, 23), first_parent=20, run_id=OTHER_RUN)
    second = chain(range(23, 25), first_parent=20, run_id=RUN.replace("1", "3"))
    assert shape(lineage([*TRUNK, *first, *second])) == [
        (list(range(1, 23)), None, False),
        ([23, 24], 20, True),
    ]


def test_a_run_that_went_back_within_itself_forks() -> None:
    back = chain(range(21, 23), first_parent=5)
    assert shape(lineage([*TRUNK, *back]))[1] == ([21, 22], 5, True)


def test_what_was_removed_is_bridged_by_the_history() -> None:
    resumed = chain(range(21, 24), first_parent=10, run_id=OTHER_RUN)
    kept = [TRUNK[4], TRUNK[19], resumed[-1]]
    removed = {found.checkpoint_id: found.parent_id for found in [*TRUNK, *resumed]}
    assert shape(lineage(kept, removed)) == [([5, 20], None, False), ([23], 5, True)]


def test_without_a_history_a_run_with_gaps_is_one_branch() -> None:
    assert shape(lineage(TRUNK[::5])) == [([1, 6, 11, 16], None, True)]


def test_a_root_that_holds_two_runs_has_two_branches() -> None:
    other = chain(range(21, 23), run_id=OTHER_RUN)
    assert shape(lineage([*TRUNK[:2], *other])) == [([1, 2], None, False), ([21, 22], None, True)]


def test_a_stripped_checkpoint_stands_in_the_place_of_its_original() -> None:
    stripped = entry(
        5, checkpoint_id=identifier(99), parent_id=identifier(4), derived_from=identifier(5)
    )
    assert shape(lineage([*TRUNK[:4], stripped, *TRUNK[5:7]])) == [
        ([1, 2, 3, 4, 5, 6, 7], None, True)
    ]


def test_parents_that_go_in_a_circle_end() -> None:
    lost = entry(30, run_id=OTHER_RUN, parent_id=identifier(40))
    circle = {identifier(40): identifier(41), identifier(41): identifier(40)}
    assert shape(lineage([lost], circle)) == [([30], None, True)]


def test_the_ancestors_of_a_checkpoint_cross_its_branch() -> None:
    resumed = chain(range(21, 23), first_parent=3, run_id=OTHER_RUN)
    everything = [*TRUNK, *resumed]
    assert [found.epoch for found in ancestors(resumed[1], everything)] == [21, 3, 2, 1]
    assert ancestors(TRUNK[0], everything) == ()
