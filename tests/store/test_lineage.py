"""Branches are told apart by who came from whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smartcash_format.disk.publish import remove
from smartcash_format.disk.strip import stripped_id
from smartcash_format.spec import layout
from smartcash_format.store.catalog import merge, scan
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.entry import Entry
from smartcash_format.store.lineage import ancestors, lineage, lineages
from tests.store.checkpoints import (
    OTHER_RUN,
    RUN,
    build_meta,
    entry,
    identifier,
    write_checkpoint,
)


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


def test_an_entry_that_is_given_twice_is_not_its_own_parent() -> None:
    orphan = entry(5, parent_id=identifier(4))
    again = entry(5, parent_id=identifier(4))
    assert shape(lineage([orphan, again])) == [([5], None, True)]
    assert ancestors(orphan, [orphan, again]) == ()


def test_the_branches_of_each_root_are_bridged_by_its_own_history(tmp_path: Path) -> None:
    for root in (tmp_path / "one", tmp_path / "two"):
        store = CheckpointStore(root)
        for number, parent, run in [(1, 0, RUN), (2, 1, RUN), (3, 2, RUN), (4, 2, OTHER_RUN)]:
            fields: dict[str, Any] = {
                "run_id": run,
                "parent_id": identifier(parent) if parent else None,
            }
            path = write_checkpoint(root, number, **fields)
            store.record_save(path, build_meta(number, **fields))
        remove(root / layout.directory_name(epoch=2, step=None, checkpoint_id=identifier(2)))
    (tmp_path / "two" / layout.HISTORY).unlink()
    listing = merge([scan(tmp_path / "one"), scan(tmp_path / "two")])
    found = lineages(listing)
    told, untold = (found[str(tmp_path / name)] for name in ("one", "two"))
    assert shape(told.branches) == [([1, 3], None, False), ([4], 1, True)]
    assert shape(untold.branches) == [([1, 3], None, False), ([4], None, True)]
    newest = next(each for each in listing if each.path.parent.name == "one")
    assert [each.epoch for each in told.ancestors(newest)] == [1]


def test_a_history_that_cannot_be_read_costs_the_bridges_alone(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1)
    (tmp_path / layout.HISTORY).mkdir()
    (found,) = lineages(scan(tmp_path)).values()
    assert shape(found.branches) == [([1], None, True)]
    assert shape(CheckpointStore(tmp_path).lineage()) == [([1], None, True)]


def test_what_came_from_a_checkpoint_comes_from_what_it_was_stripped_to() -> None:
    first, _, *rest = chain(range(1, 5))
    bare = entry(
        2, checkpoint_id=identifier(99), parent_id=identifier(1), derived_from=identifier(2)
    )
    fork = chain(range(5, 6), first_parent=2, run_id=OTHER_RUN)
    assert shape(lineage([first, bare, *rest, *fork])) == [
        ([1, 2, 3, 4], None, False),
        ([5], 2, True),
    ]


def test_what_resumed_from_a_stripped_one_that_is_gone_comes_from_before_it(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    parents = [None, identifier(1), identifier(2), stripped_id(identifier(2))]
    for number, parent in enumerate(parents, start=1):
        fields: dict[str, Any] = {
            "parent_id": parent,
            "run_id": RUN if number < 4 else OTHER_RUN,
        }
        path = write_checkpoint(tmp_path, number, **fields)
        store.record_save(path, build_meta(number, **fields))
    remove(tmp_path / layout.directory_name(epoch=2, step=None, checkpoint_id=identifier(2)))
    assert shape(store.lineage()) == [([1, 3], None, False), ([4], 1, True)]
