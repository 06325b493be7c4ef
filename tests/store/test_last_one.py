"""The last checkpoint of a root that can be read never goes, whatever happened since the plan."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from smartcash_format.errors import CheckpointWriteError
from smartcash_format.store import pruning
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.retention import Decision, KeepLast, Plan
from smartcash_format.store.tree import search
from tests.store.checkpoints import START, write_checkpoint

pytestmark = pytest.mark.usefixtures("noon")


def by_name(root: Path, path: Path) -> None:
    CheckpointStore(root).remove(path)


def by_hand(root: Path, path: Path) -> None:
    shutil.rmtree(path)


def in_part(root: Path, path: Path) -> None:
    (path / "model.safetensors").unlink()


@pytest.mark.parametrize("lose", [by_name, by_hand, in_part])
def test_a_plan_that_aged_leaves_one_that_can_be_read(
    tmp_path: Path, lose: Callable[[Path, Path], None]
) -> None:
    first, second, third = (write_checkpoint(tmp_path, number) for number in range(1, 4))
    store = CheckpointStore(tmp_path)
    plan = store.plan(KeepLast(1))
    lose(tmp_path, third)
    applied = store.apply(plan)
    assert applied.paths == (first,)
    assert applied.warnings == (
        f"{second.name} was not removed: it is the only checkpoint of this root that can be read",
    )
    assert applied.refused == ()
    assert [found.path for found in store.list()] == [second]


def test_what_was_saved_since_the_plan_is_one_that_can_be_read(tmp_path: Path) -> None:
    first, second = (write_checkpoint(tmp_path, number) for number in (1, 2))
    store = CheckpointStore(tmp_path)
    plan = store.plan(KeepLast(1))
    shutil.rmtree(second)
    third = write_checkpoint(tmp_path, 3)
    assert store.apply(plan).paths == (first,)
    assert [found.path for found in store.list()] == [third]


def test_each_root_of_a_tree_keeps_its_last(tmp_path: Path) -> None:
    for root in ("a", "b"):
        write_checkpoint(tmp_path / root, 1)
    plan = Plan(
        decisions=tuple(
            Decision(entry=entry, action="remove", reasons=()) for entry in search(tmp_path)
        )
    )
    assert CheckpointStore(tmp_path).apply(plan).paths == ()
    assert len(search(tmp_path)) == 2


def test_what_is_broken_goes_by_its_name_also_where_nothing_can_be_read(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    (path / "model.safetensors").unlink()
    CheckpointStore(tmp_path).remove(path)
    assert not path.exists()


def test_a_link_to_the_last_one_goes_by_its_name(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    (tmp_path / "best").symlink_to(path.name)
    CheckpointStore(tmp_path).remove("best")
    assert not (tmp_path / "best").is_symlink()
    assert path.exists()


def test_two_that_are_removed_by_name_at_once_are_not_both_gone(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for number in (1, 2):
        write_checkpoint(tmp_path, number)
    one, other = (store.look(entry) for entry in store.list())
    pruning.remove_named(one, clock=lambda: START)
    with pytest.raises(CheckpointWriteError, match="only checkpoint of this root"):
        pruning.remove_named(other, clock=lambda: START)
    assert [entry.path for entry in store.list()] == [other.path]
