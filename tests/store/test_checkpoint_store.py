"""A store looks without touching, removes what a plan dooms, and never what is protected."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import derive, pins, publish
from smartcash_format.disk import strip as disk_strip
from smartcash_format.disk.pins import lift_pin, write_pin
from smartcash_format.errors import CheckpointWriteError
from smartcash_format.spec import layout
from smartcash_format.spec.pin import Pin
from smartcash_format.store import pruning
from smartcash_format.store.checkpoint_store import CheckpointStore, strip
from smartcash_format.store.retention import DropResumeState, KeepLast, KeepTagged
from smartcash_format.store.tree import search
from smartcash_format.testing.sample import write_sample
from tests.store.checkpoints import OTHER_RUN, RUN, START, build_meta, identifier, write_checkpoint

pytestmark = pytest.mark.usefixtures("noon")


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


def test_what_is_no_policy_plans_nothing(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for wrong in (KeepLast, 3, None):
        with pytest.raises(TypeError, match=r"policy is .*KeepLast\(3\)"):
            store.plan(wrong)  # type: ignore[arg-type]


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

    def stubborn(path: Path, **options: Any) -> int:
        if path == first:
            raise CheckpointWriteError("it was not removed: busy", path=path, errno=16)
        return honest(path, **options)

    monkeypatch.setattr(pruning, "remove", stubborn)
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


def test_a_checkpoint_that_is_being_read_is_not_stripped_by_name(tmp_path: Path) -> None:
    path = write_sample(tmp_path, epoch=1)
    store = CheckpointStore(tmp_path)
    (entry,) = store.list()
    write_pin(tmp_path, entry.checkpoint_id, Pin(reason="read"), holder="reader-1")
    with pytest.raises(CheckpointWriteError, match="is being read"):
        store.strip(path)
    assert names(tmp_path) == [path.name]


def test_a_reader_that_comes_while_it_is_stripped_keeps_it_and_its_protection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sample(tmp_path, epoch=1)
    store = CheckpointStore(tmp_path)
    store.protect(path, "table 2")
    (entry,) = store.list()
    honest = publish.remove

    def read_first(doomed: Path, **options: Any) -> int:
        write_pin(tmp_path, entry.checkpoint_id, Pin(reason="read"), holder="reader-1")
        return honest(doomed, **options)

    monkeypatch.setattr(disk_strip, "remove", read_first)
    with pytest.raises(CheckpointWriteError, match="protected this moment"):
        store.strip(path)
    assert names(tmp_path) == [path.name]
    lift_pin(tmp_path, entry.checkpoint_id, holder="reader-1")
    assert store.protected() == {entry.checkpoint_id: "protected: table 2"}


def test_what_is_protected_while_a_plan_strips_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (
        write_sample(tmp_path, epoch=epoch, saved_at=START + timedelta(minutes=epoch))
        for epoch in (1, 2)
    )
    store = CheckpointStore(tmp_path)
    plan = store.plan(DropResumeState(older_than=1))
    honest = derive.require_whole

    def protect_first(*args: Any) -> None:
        store.protect(old, "late")
        honest(*args)

    monkeypatch.setattr(disk_strip, "require_whole", protect_first)
    applied = store.apply(plan)
    assert (applied.stripped, len(applied.warnings)) == ((), 1)
    assert names(tmp_path) == sorted([old.name, new.name])


def test_an_error_of_the_system_at_one_costs_no_other_and_what_was_done_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = (write_checkpoint(tmp_path, number) for number in range(1, 4))
    store = CheckpointStore(tmp_path)
    plan = store.plan(KeepLast(1))
    honest = pins.read_pins
    asked = 0

    def flaky(root: Path, now: datetime) -> dict[str, str]:
        nonlocal asked
        asked += 1
        if asked > 2:  # before and while the first is removed they can be read
            raise OSError(5, "Input/output error")
        return honest(root, now)

    monkeypatch.setattr(pins, "read_pins", flaky)
    applied = store.apply(plan)
    assert applied.paths == (first,)
    assert applied.warnings == (f"{second.name} stays: Input/output error",)
    assert second.is_dir()
    assert store.events().lines[-1].checkpoints == [first.name]


def test_what_was_done_before_an_interrupt_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = (write_checkpoint(tmp_path, number) for number in range(1, 4))
    store = CheckpointStore(tmp_path)
    honest = publish.remove

    def interrupted(path: Path, **options: Any) -> int:
        if path == second:
            raise KeyboardInterrupt
        return honest(path, **options)

    monkeypatch.setattr(pruning, "remove", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.apply(store.plan(KeepLast(1)))
    assert store.events().lines[-1].checkpoints == [first.name]


def elsewhere(tmp_path: Path, how: str) -> tuple[CheckpointStore, Path, Path]:
    """A store, a checkpoint that lies in another root, and how it is named there."""
    path = write_sample(tmp_path / "runs" / "run1" / "weights", epoch=1)
    match how:
        case "link":
            (tmp_path / "links").mkdir()
            (tmp_path / "links" / "best").symlink_to(path)
            return CheckpointStore(tmp_path / "links"), path, tmp_path / "links" / "best"
        case "below":
            store = CheckpointStore(tmp_path / "runs")
            return store, path, path.relative_to(tmp_path / "runs")
        case _:
            return CheckpointStore(tmp_path / "other"), path, path


@pytest.mark.parametrize("how", ["link", "below", "outside"])
def test_a_checkpoint_of_another_root_is_protected_and_stripped_where_it_lies(
    tmp_path: Path, how: str
) -> None:
    store, path, name = elsewhere(tmp_path, how)
    home = CheckpointStore(path.parent)
    store.protect(name, "table 2")
    assert list(home.protected().values()) == ["protected: table 2"]
    stripped = store.strip(name)
    assert names(path.parent) == [stripped.path.name]
    assert home.protected() == {stripped.checkpoint_id: "protected: table 2"}
    store.unprotect(stripped.path)
    assert home.protected() == {}
    assert not (store.root / layout.PINS).exists()


def test_a_plan_of_a_whole_tree_keeps_the_newest_and_the_pinned_of_each_root_and_notes_in_each(
    tmp_path: Path,
) -> None:
    for number in range(6):
        write_checkpoint(tmp_path / f"run{number % 2}", number + 1)
    store = CheckpointStore(tmp_path)
    CheckpointStore(tmp_path / "run0").protect(search(tmp_path)[5], "table 2")
    applied = store.apply(store.plan(KeepLast(1), search(tmp_path)))
    assert [path.parent.name for path in applied.paths] == ["run1", "run0", "run1"]
    assert [found.epoch for found in search(tmp_path)] == [6, 5, 1]
    for run in ("run0", "run1"):
        assert CheckpointStore(tmp_path / run).events().lines[-1].event == "cleanup"
    assert not (tmp_path / layout.HISTORY).exists()


def test_what_was_just_published_is_never_planned_away(tmp_path: Path) -> None:
    for number in range(1, 4):
        write_checkpoint(tmp_path, number)
    plan = CheckpointStore(tmp_path).plan(KeepLast(1), published=[identifier(1)])
    assert [found.epoch for found in plan.kept] == [1, 3]
    assert plan.decisions[0].reasons == ("just saved",)


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
