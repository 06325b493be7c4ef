"""A store looks without touching, removes what a plan dooms, and never what is protected."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import publish
from smartcash_format.errors import (
    CheckpointNotFoundError,
    CheckpointWriteError,
    InvalidCheckpointError,
)
from smartcash_format.spec import layout
from smartcash_format.store import checkpoint_store
from smartcash_format.store.checkpoint_store import CheckpointStore, find_roots, search, strip
from smartcash_format.store.retention import DropResumeState, KeepLast, KeepTagged
from smartcash_format.testing.sample import write_sample
from tests.store.checkpoints import OTHER_RUN, RUN, START, build_meta, identifier, write_checkpoint


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_store, "_now", lambda: START + timedelta(hours=1))


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if not path.name.startswith("."))


def test_looking_at_a_missing_root_finds_nothing_and_makes_nothing(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "runs" / "weights")
    assert list(store.list()) == []
    assert list(store.filter(min_epoch=1)) == []
    assert store.best() is store.latest() is store.by_epoch(1) is None
    assert store.protected() == {}
    assert store.plan_cleanup().decisions == ()
    assert store.history()["total_runs"] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_store_finds_what_queries_find(tmp_path: Path) -> None:
    for number in range(1, 5):
        write_checkpoint(tmp_path, number, metrics={"val_map": -number}, is_best=number == 2)
    store = CheckpointStore(tmp_path)
    assert [found.epoch for found in store.list()] == [4, 3, 2, 1]
    assert [found.epoch for found in store.filter(max_epoch=2)] == [2, 1]
    chosen = [store.best(), store.best("val_map", "max"), store.latest(), store.by_epoch(3)]
    assert [found.epoch if found else None for found in chosen] == [2, 1, 4, 3]


def test_a_plan_removes_the_doomed_oldest_first_and_nothing_else(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path, number) for number in range(1, 7)]
    (tmp_path / "foreign").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / layout.META).write_text("{")
    (tmp_path / "best.pt").write_bytes(b"")
    store = CheckpointStore(tmp_path)
    applied = store.apply(store.plan(KeepLast(2)))
    assert applied.paths == tuple(paths[:4])
    assert applied.warnings == ()
    left = ["best.pt", "broken", "foreign", *(path.name for path in paths[4:])]
    assert names(tmp_path) == sorted([*left, layout.HISTORY])
    event = store.events().lines[-1]
    assert event.event == "cleanup"
    assert event.checkpoints == [path.name for path in paths[:4]]


def test_what_is_protected_survives_every_plan_until_it_is_unprotected(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path, number) for number in range(1, 4)]
    store = CheckpointStore(tmp_path)
    before = sorted(os.listdir(paths[0]))
    store.protect(paths[0].name, "table 2")
    assert sorted(os.listdir(paths[0])) == before
    assert store.plan(KeepLast(1)).decisions[0].reasons == ("protected: table 2",)
    store.apply(store.plan_cleanup(max_checkpoints=1))
    assert [found.epoch for found in store.list()] == [3, 1]
    store.unprotect(paths[0])
    store.apply(store.plan(KeepTagged("none")))
    assert [found.epoch for found in store.list()] == [3]


def test_what_was_protected_or_changed_after_the_plan_stays_with_a_warning(tmp_path: Path) -> None:
    first, second, _ = (write_checkpoint(tmp_path, number) for number in range(1, 4))
    store = CheckpointStore(tmp_path)
    plan = store.plan(KeepLast(1))
    store.protect(first, "late")
    (second / layout.META).write_text("{")
    applied = store.apply(plan)
    assert applied.paths == ()
    assert [warning.split()[0] for warning in applied.warnings] == [first.name, second.name]
    assert first.is_dir()
    assert second.is_dir()


def test_what_another_process_removed_is_passed_over(tmp_path: Path) -> None:
    first, second, _ = (write_checkpoint(tmp_path, number) for number in range(1, 4))
    store = CheckpointStore(tmp_path)
    plan = store.plan(KeepLast(1))
    publish.remove(first)
    applied = store.apply(plan)
    assert applied.paths == (second,)
    assert applied.warnings == ()


def test_what_cannot_be_removed_is_a_warning_and_the_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = (write_checkpoint(tmp_path, number) for number in range(1, 4))
    honest = publish.remove

    def stubborn(path: Path, **options: object) -> int:
        if path == first:
            raise CheckpointWriteError("it was not removed: busy", path=path, errno=16)
        return honest(path)

    monkeypatch.setattr(checkpoint_store, "remove", stubborn)
    store = CheckpointStore(tmp_path)
    applied = store.apply(store.plan(KeepLast(1)))
    assert applied.paths == (second,)
    assert applied.warnings == ("it was not removed: busy",)


def test_a_plan_strips_what_keeps_its_weights_alone(tmp_path: Path) -> None:
    for epoch in range(1, 5):
        write_sample(tmp_path, epoch=epoch, saved_at=START + timedelta(minutes=epoch))
    store = CheckpointStore(tmp_path)
    plan = store.plan(KeepLast(3) | DropResumeState(older_than=1))
    applied = store.apply(plan)
    assert applied.warnings == ()
    assert [path.name for path in applied.paths] == [plan.doomed[0].name]
    assert [(found.epoch, found.has_optimizer) for found in store.list()] == [
        (4, True),
        (3, False),
        (2, False),
    ]
    assert applied.stripped == tuple(found.path for found in reversed(store.list()[1:]))
    assert [found.derived_from for found in store.list()[1:]] == [
        found.checkpoint_id for found in reversed(plan.stripped)
    ]
    assert store.plan(DropResumeState(older_than=1)).stripped == ()


def test_stripping_by_name_carries_the_protection_over(tmp_path: Path) -> None:
    path = write_sample(tmp_path, epoch=1)
    store = CheckpointStore(tmp_path)
    store.protect(path, "table 2")
    (path / layout.OPTIMIZER).unlink()
    stripped = store.strip(path.name)
    assert store.protected() == {stripped.checkpoint_id: "protected: table 2"}
    assert [found.path for found in store.list()] == [stripped.path]
    assert store.strip(stripped.path).path == stripped.path
    assert store.protected() == {stripped.checkpoint_id: "protected: table 2"}


def test_stripping_a_path_is_stripping_it_in_its_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sample(tmp_path, epoch=1)
    CheckpointStore(tmp_path).protect(path, "table 2")
    monkeypatch.chdir(tmp_path)
    stripped = strip(path.name)
    (found,) = CheckpointStore(tmp_path).list()
    assert found.path == stripped.path
    assert not found.has_optimizer
    assert stripped.freed_bytes > 0
    assert CheckpointStore(tmp_path).protected() == {found.checkpoint_id: "protected: table 2"}


def test_what_was_just_published_is_never_planned_away(tmp_path: Path) -> None:
    for number in range(1, 4):
        write_checkpoint(tmp_path, number)
    plan = CheckpointStore(tmp_path).plan(KeepLast(1), published=[identifier(1)])
    assert [found.epoch for found in plan.kept] == [1, 3]
    assert plan.decisions[0].reasons == ("just saved",)


def test_protecting_what_is_not_there_or_broken_is_an_error(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    with pytest.raises(CheckpointNotFoundError, match="no such checkpoint"):
        store.protect("nothing", "why")
    path = write_checkpoint(tmp_path, 1)
    (path / "optimizer.pt").unlink()
    with pytest.raises(InvalidCheckpointError, match=r"optimizer\.pt"):
        store.protect(path, "why")
    assert not (tmp_path / layout.PINS).exists()


def test_protection_with_an_end_is_over_when_it_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path, 1)
    store = CheckpointStore(tmp_path)
    end: datetime = START + timedelta(hours=2)
    store.protect(path, "being read", until=end)
    assert list(store.protected()) == [identifier(1)]
    monkeypatch.setattr(checkpoint_store, "_now", lambda: end)
    assert store.protected() == {}


def test_saves_resumes_and_copies_stand_in_the_history(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    store = CheckpointStore(tmp_path, run_id=OTHER_RUN)
    assert store.record_save(path, build_meta(1)) == ()
    assert store.record_resume(path, build_meta(1), run_id=OTHER_RUN) == ()
    assert store.record_copy([path], Path("/content/drive/MyDrive")) == ()
    assert store.record_copy([], Path("/content/drive/MyDrive")) == ()
    events = store.events()
    assert [(line.event, line.run_id) for line in events.lines] == [
        ("save", RUN),
        ("resume", OTHER_RUN),
        ("copy", OTHER_RUN),
    ]
    assert store.history()["total_runs"] == 1
    assert "MyDrive" not in (tmp_path / layout.HISTORY).read_text()


def test_branches_are_told_apart_after_a_resume_and_a_cleanup(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for number, parent, run in [(1, 0, RUN), (2, 1, RUN), (3, 2, RUN), (4, 2, OTHER_RUN)]:
        fields: dict[str, Any] = {
            "run_id": run,
            "parent_id": identifier(parent) if parent else None,
        }
        path = write_checkpoint(tmp_path, number, **fields)
        store.record_save(path, build_meta(number, **fields))
    remove_plan = store.plan(KeepTagged("none"), published=[identifier(1), identifier(3)])
    assert [found.epoch for found in remove_plan.doomed] == [2]
    store.apply(remove_plan)
    branches = store.lineage()
    assert [[found.epoch for found in branch.entries] for branch in branches] == [[1, 3], [4]]
    assert branches[1].forked_from == branches[0].entries[0]


def test_a_tree_gives_its_roots_and_one_listing_of_them_all(tmp_path: Path) -> None:
    for number, root in enumerate(["a/weights", "b", "b/nested/weights", "a/weights/deeper"]):
        write_checkpoint(tmp_path / root, number)
    (tmp_path / "history-only").mkdir()
    (tmp_path / "history-only" / layout.HISTORY).write_text("")
    write_checkpoint(tmp_path / ".hidden", 8)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    found = [path.relative_to(tmp_path).as_posix() for path in find_roots(tmp_path)]
    assert found == ["a/weights", "a/weights/deeper", "b", "b/nested/weights", "history-only"]
    assert [entry.epoch for entry in search(tmp_path)] == [3, 2, 1, 0]
    assert list(find_roots(tmp_path / "nowhere")) == []


def test_a_root_in_the_tree_that_cannot_be_listed_is_broken_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "open", 1)
    (tmp_path / "shut").mkdir()
    honest = os.scandir

    def guarded(path: str) -> object:
        if os.fspath(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return honest(path)

    monkeypatch.setattr(os, "scandir", guarded)
    listing = search(tmp_path)
    assert [entry.epoch for entry in listing] == [1]
    assert [(one.path.name, one.code) for one in listing.broken] == [("shut", "file-unreadable")]
