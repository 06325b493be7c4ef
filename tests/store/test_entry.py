"""An entry is a path that carries its meta."""

from __future__ import annotations

import os
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.spec.digest import seal
from smartcash_format.store.catalog import read_entry
from smartcash_format.store.entry import Entry
from smartcash_format.store.glance import glance
from tests.store.checkpoints import OTHER_RUN, START, build_meta, entry, write_checkpoint


def listed(path: Path) -> Entry:
    found = read_entry(path)
    assert isinstance(found, Entry)
    return found


def test_an_entry_goes_wherever_a_path_goes(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 7)
    found = listed(path)
    assert os.fspath(found) == str(found) == str(path)
    assert found.path == path
    assert found / "model.safetensors" == path / "model.safetensors"
    assert os.listdir(found) == os.listdir(path)


def test_an_entry_is_true_hashable_and_equal_to_another_look_at_the_same_checkpoint(
    tmp_path: Path,
) -> None:
    path = write_checkpoint(tmp_path, 7)
    found = listed(path)
    assert bool(found) is True
    assert {found, listed(path)} == {found}
    assert found != listed(write_checkpoint(tmp_path, 8))
    assert found != path


def test_an_entry_of_epoch_0_without_metrics_is_true() -> None:
    assert bool(entry(0, metrics={}, sizes={})) is True


def test_an_entry_carries_what_its_meta_says(tmp_path: Path) -> None:
    said: dict[str, Any] = {
        "epoch": 70,
        "step": 1234,
        "run_id": OTHER_RUN,
        "parent_id": OTHER_RUN,
        "saved_at": datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC),
        "is_best": True,
        "tags": ["release", "phase2"],
        "metrics": {"val_map": 0.75, "broken": float("inf"), "count": 3},
    }
    found = listed(write_checkpoint(tmp_path, 7, **said))
    meta = found.meta
    assert meta == build_meta(7, **said).model_copy(update={"meta_digest": found.meta_digest})
    same = ["meta_digest", "checkpoint_id", "run_id", "parent_id", "derived_from", "saved_at"]
    same += ["epoch", "step", "is_best", "backbone", "dataset", "size_bytes"]
    for name in same:
        assert getattr(found, name) == getattr(meta, name), name
    assert dict(found.metrics) == meta.metrics
    assert {name: found.metric(name) for name in meta.metrics} == meta.metrics
    assert found.metric("map_of_another") is None
    assert list(found.tags) == meta.tags
    assert found.has_optimizer
    assert found.resume_bytes == 10_700


def test_an_entry_without_optimizer_says_so() -> None:
    bare = entry(1, optimizer=None, scheduler=None, sizes={"model.safetensors": 5})
    assert not bare.has_optimizer
    assert bare.resume_bytes == 0


def test_an_entry_does_not_change() -> None:
    found = entry(1)
    for name in ("parent", "name", "meta_bytes", "epoch", "another"):
        with pytest.raises(AttributeError):
            setattr(found, name, "other")
    with pytest.raises(TypeError):
        found.metrics["val_map"] = 1.0  # type: ignore[index]


def test_an_entry_survives_a_trip_to_another_process() -> None:
    found = entry(3)
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert again.meta == found.meta


def test_the_order_of_entries_is_the_order_of_saving_then_of_ids() -> None:
    early, late = entry(9, saved_at=START), entry(1, saved_at=START + timedelta(microseconds=1))
    assert early.order < late.order
    assert entry(1, saved_at=START).order < early.order


def test_the_meta_of_an_entry_raises_what_a_listing_does_not_look_at() -> None:
    document = build_meta(1).model_dump(mode="json")
    data = seal({**document, "rng": "yes"})
    (seen,) = glance([data])
    assert seen is not None
    with pytest.raises(InvalidCheckpointError) as raised:
        _ = Entry("", "odd", data, seen).meta
    assert [problem.where for problem in raised.value.problems] == ["meta.json: rng"]
