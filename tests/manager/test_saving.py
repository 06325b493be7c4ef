"""save_checkpoint: what it says, what it never refuses, and what it refuses before it writes."""

from __future__ import annotations

import enum
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from smartcash_format.disk.observe import validate
from smartcash_format.disk.read import read_meta
from smartcash_format.errors import CheckpointError, CheckpointWriteError, UnsavableStateError
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.manager.functions import save_checkpoint
from smartcash_format.spec.problems import Depth
from smartcash_format.store.catalog import scan
from smartcash_format.testing.sample import write_sample
from tests.manager.training import manager, said, same, training

pytestmark = pytest.mark.torch


def saved(root: Path, **arguments: Any) -> Any:
    """The meta of one save into a root, and what was logged as warnings."""
    made, log = manager(root)
    live = training()
    result = made.save_checkpoint(live.model, epoch=1, **arguments)
    assert validate(result["path"], Depth.CONTENT).valid
    return made.list_checkpoints()[0].meta, said(log, "warning")


def test_a_save_answers_with_path_type_and_id(tmp_path: Path) -> None:
    made, log = manager(tmp_path / "runs" / "train")
    live = training()
    result = made.save_checkpoint(**live.live(), epoch=3, is_best=True, metrics={"loss": 0.5})
    assert result["type"] == "best"
    assert result["path"].parent == tmp_path / "runs" / "train"
    assert result["path"].name == f"epoch-0003-{result['checkpoint_id'][:8]}"
    on_disk = sum(file.stat().st_size for file in result["path"].iterdir())
    assert result["bytes"] == on_disk
    assert len(said(log, "info").splitlines()) == 1
    assert str(result["path"]) in said(log, "info")
    assert made.save_checkpoint(live.model, epoch=4)["type"] == "latest"


def test_a_manager_touches_nothing_before_its_first_save(tmp_path: Path) -> None:
    root = tmp_path / "root"
    made, _ = manager(root)
    assert made.find_best_checkpoint() is None
    assert made.find_latest_checkpoint() is None
    assert made.find_checkpoint_by_epoch(1) is None
    assert list(made.list_checkpoints()) == []
    assert made.cleanup_checkpoints() == []
    assert made.get_training_history()["total_runs"] == 0
    made.display_checkpoints()
    assert not root.exists()
    assert made.output_dir == root


def test_files_have_the_mode_that_open_gives(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    path = made.save_checkpoint(**training().live(), epoch=1)["path"]
    with open(tmp_path / "plain", "w"):
        pass
    plain = (tmp_path / "plain").stat().st_mode
    assert {file.stat().st_mode for file in path.iterdir()} == {plain}


def test_metrics_of_every_kind_of_number_are_kept_and_the_rest_goes_to_notes(
    tmp_path: Path,
) -> None:
    metrics = {
        "nan": float("nan"), "inf": np.float32("inf"), "tensor": torch.tensor(0.25),
        "numpy": np.float64(0.5), "int": np.int64(3), "nested": {"a": {"b": 1.5}}, "text": "good",
    }  # fmt: skip
    meta, warnings = saved(tmp_path, metrics=metrics)
    assert meta.metrics["nan"] != meta.metrics["nan"]
    assert meta.metrics["inf"] == float("inf")
    assert (meta.metrics["tensor"], meta.metrics["numpy"], meta.metrics["int"]) == (0.25, 0.5, 3)
    assert meta.metrics["nested/a/b"] == 1.5
    assert meta.notes["metrics"] == {"text": "good"}
    assert "text" in warnings


class Colour(enum.Enum):
    RED = "red"


def test_a_config_with_anything_in_it_never_costs_the_checkpoint(tmp_path: Path) -> None:
    config = SimpleNamespace(
        path=Path("a/b"), pair=(1, 2), colour=Colour.RED, keys={1: "x", (2, 3): "y"},
        hook=lambda: 0, model={"backbone": "efficientnet_b4"}, data={"source": "roboflow"},
        array=np.arange(3), device=torch.device("cpu"), nan=float("nan"), text="\ud800",
    )  # fmt: skip
    meta, warnings = saved(tmp_path, config=config)
    assert meta.config["path"] == "a/b"
    assert meta.config["pair"] == [1, 2]
    assert meta.config["colour"] == "red"
    assert "$repr" in meta.config["hook"]
    assert "hook" in warnings
    assert (meta.backbone, meta.dataset) == ("efficientnet_b4", "roboflow")
    huge, warnings = saved(tmp_path / "huge", config={"a": "x" * 1_000_000, "b": 1})
    assert huge.config == {"$keys": ["a", "b"]}
    assert "config" in warnings


@pytest.mark.parametrize(
    ("config", "backbone", "dataset"),
    [
        ({"backbone": "b", "dataset": "d"}, "b", "d"),
        ({"backbone": "b", "model": {"backbone": "m"}, "dataset": {"name": "n"}}, "m", "n"),
        ({"data": {"source": "s"}, "dataset": {"name": "n"}}, None, "s"),
        ({"backbone": 4, "dataset": 5}, None, None),
        (None, None, None),
    ],
)
def test_backbone_and_dataset_are_found_where_a_config_says_them(
    tmp_path: Path, config: Any, backbone: str | None, dataset: str | None
) -> None:
    meta, _ = saved(tmp_path, config=config)
    assert (meta.backbone, meta.dataset) == (backbone, dataset)
    meta, _ = saved(tmp_path / "given", config=config, backbone="given", dataset="too")
    assert (meta.backbone, meta.dataset) == ("given", "too")


def test_the_monitor_marks_what_beats_every_finite_value_before_it(tmp_path: Path) -> None:
    made, _ = manager(tmp_path, monitor="val_map", mode="max")
    live = training()
    values = [float("nan"), 0.5, 0.4, 0.5, float("inf"), 0.6]
    marks = [
        made.save_checkpoint(live.model, epoch=epoch, metrics={"val_map": value})["type"]
        for epoch, value in enumerate(values, 1)
    ]
    assert marks == ["latest", "best", "latest", "latest", "latest", "best"]
    again, _ = manager(tmp_path, monitor="val_map", mode="max")
    assert again.save_checkpoint(live.model, epoch=7, metrics={"val_map": 0.55})["type"] == "latest"
    assert made.save_checkpoint(live.model, epoch=8, is_best=True)["type"] == "best"


def test_monitor_and_mode_go_together() -> None:
    with pytest.raises(ValueError, match="go together"):
        CheckpointManager(monitor="val_loss")
    with pytest.raises(ValueError, match="go together"):
        CheckpointManager(monitor="val_loss", mode="smallest")  # type: ignore[arg-type]


def test_an_epoch_saved_twice_makes_two_checkpoints_and_the_last_one_is_found(
    tmp_path: Path,
) -> None:
    made, _ = manager(tmp_path)
    live = training()
    first = made.save_checkpoint(live.model, epoch=2)
    second = made.save_checkpoint(live.model, epoch=2)
    found = made.find_checkpoint_by_epoch(2)
    assert len(made.list_checkpoints()) == 2
    assert found is not None
    assert found.path == second["path"] != first["path"]


@pytest.mark.parametrize(
    ("epoch", "error", "words"),
    [
        (-1, ValueError, "from 0 up"),
        (1.5, TypeError, "whole number"),
        (True, TypeError, "whole number"),
        (..., TypeError, "counted from 1"),
        (2**63, ValueError, "epoch"),
    ],
)
def test_an_epoch_that_counts_nothing_is_refused(
    tmp_path: Path, epoch: Any, error: type[Exception], words: str
) -> None:
    made, _ = manager(tmp_path / "root")
    with pytest.raises(error, match=words):
        made.save_checkpoint(training().model, epoch=epoch)
    assert not (tmp_path / "root").exists()


def test_the_users_own_note_called_metrics_is_kept(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    made.save_checkpoint(
        training().model, epoch=1, metrics={"text": "good"}, notes={"metrics": "see paper"}
    )
    notes = made.list_checkpoints()[0].meta.notes
    assert notes == {"metrics": "see paper", "$metrics": {"text": "good"}}


class NoState:
    """A scheduler without state."""


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"model": None}, "model"),
        ({"scheduler": NoState()}, "scheduler"),
        ({"extra": {"thing": NoState()}}, "extra['thing']"),
        ({"extra": {"Bad Name": torch.nn.Identity()}}, "extra['Bad Name']"),
        ({"extra": {"loader": {"hook": print}}}, "extra['loader']['hook']"),
        ({"model": {"w": torch.zeros(2, dtype=torch.complex128)}}, "w"),
        ({"model": {"w": torch.zeros(2, device="meta")}}, "w"),
    ],
)
def test_state_that_could_not_be_loaded_again_is_refused_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, Any], where: str
) -> None:
    made, _ = manager(tmp_path / "root")
    with pytest.raises(UnsavableStateError) as caught:
        made.save_checkpoint(**{"model": training().model, "epoch": 1, **arguments})
    assert where in caught.value.where
    assert not (tmp_path / "root").exists()


def test_plain_state_dicts_and_an_empty_scheduler_are_saved(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    live = training()
    path = made.save_checkpoint(live.model.state_dict(), live.optimizer.state_dict(), {}, epoch=1)[
        "path"
    ]
    meta = made.list_checkpoints()[0].meta
    assert meta.optimizer is not None
    assert meta.scheduler is not None
    assert meta.weights["model"].class_name is None
    assert validate(path, Depth.CONTENT).valid


def test_save_optimizer_false_leaves_out_optimizer_and_scheduler(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    path = made.save_checkpoint(**training().live(), epoch=1, save_optimizer=False)["path"]
    assert {file.name for file in path.iterdir()} == {
        "meta.json", "tensors.json", "model.safetensors", "extra.pt",
    }  # fmt: skip


def test_the_clock_of_a_root_never_runs_backwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime, timedelta

    from smartcash_format.manager import saver

    now = datetime.now(UTC)

    class Slow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return now - timedelta(hours=1)

    made, _ = manager(tmp_path)
    live = training()
    made.save_checkpoint(live.model, epoch=5)
    monkeypatch.setattr(saver, "datetime", Slow)
    made.save_checkpoint(live.model, epoch=1)
    latest = made.find_latest_checkpoint()
    assert latest is not None
    assert latest.epoch == 1
    assert made.cleanup_checkpoints(max_checkpoints=0, max_epochs=0) != [latest.path]
    assert made.find_latest_checkpoint() == latest


def test_lineage_follows_saves_and_resumes(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    live = training()
    first = made.save_checkpoint(**live.live(), epoch=1)
    second = made.save_checkpoint(**live.live(), epoch=2)
    entries = {entry.epoch: entry for entry in made.list_checkpoints()}
    assert entries[2].parent_id == first["checkpoint_id"]
    other, _ = manager(tmp_path)
    other.load_checkpoint(1, **live.live())
    other.save_checkpoint(**live.live(), epoch=3)
    latest = other.find_latest_checkpoint()
    assert latest is not None
    assert latest.parent_id == first["checkpoint_id"] != second["checkpoint_id"]
    assert latest.run_id != entries[1].run_id


class Raising:
    """A logger that fails at every call."""

    def __getattr__(self, name: str) -> Any:
        def say(*_: object) -> None:
            raise RuntimeError("no log today")

        return say


def test_a_logger_that_raises_never_fails_a_save(tmp_path: Path) -> None:
    made = CheckpointManager(tmp_path, Raising())
    assert made.save_checkpoint(training().model, epoch=1)["path"].is_dir()
    assert made.load_checkpoint(model=training().model)["epoch"] == 1
    assert made.cleanup_checkpoints() == []


def test_every_rank_but_the_first_returns_at_once_and_no_collective_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collective(*_: object, **__: object) -> None:
        raise AssertionError("a collective was called")

    for call in ("barrier", "broadcast", "all_gather", "all_reduce", "broadcast_object_list"):
        monkeypatch.setattr(torch.distributed, call, collective)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    made, _ = manager(tmp_path / "root")
    live = training()
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    for result in (
        made.save_checkpoint(**live.live(), epoch=1),
        save_checkpoint(tmp_path / "root" / "alone", live.model),
    ):
        assert result["type"] == "skipped"
        assert result["path"] is None
    assert not (tmp_path / "root").exists()
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    assert made.save_checkpoint(**live.live(), epoch=1)["path"].is_dir()


def test_every_error_of_a_save_is_of_one_tree() -> None:
    assert issubclass(CheckpointWriteError, CheckpointError)
    assert issubclass(CheckpointWriteError, OSError)
    assert issubclass(UnsavableStateError, CheckpointError)


def test_meta_json_is_small_and_strict(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    path = made.save_checkpoint(**training().live(), epoch=1)["path"]
    data = (path / "meta.json").read_bytes()
    assert len(data) < 4_000
    assert json.loads(data)["format"] == "smartcash-checkpoint"


@pytest.mark.parametrize("blocking", [True, False])
def test_weights_beyond_the_size_given_are_saved_in_shards(tmp_path: Path, blocking: bool) -> None:
    made, _ = manager(tmp_path, max_shard_size=60)
    live = training()
    made.save_checkpoint(**live.live(), epoch=1, extra={"ema": live.model}, blocking=blocking)
    made.close()
    (entry,) = made.list_checkpoints()
    assert validate(entry.path, Depth.CONTENT).problems == ()
    shards = [file for file in entry.path.iterdir() if file.suffix == ".safetensors"]
    assert len(shards) == 2 * len([file for file in shards if file.name.startswith("ema-")]) > 4
    other = training(seed=9)
    made.load_checkpoint("latest", **other.live())
    assert same(other.state(), live.state())


def test_a_shard_size_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no size"):
        manager(tmp_path, max_shard_size="five gigabytes")


def test_a_save_to_a_path_is_the_newest_of_its_root_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = datetime.now(UTC) + timedelta(days=3)
    write_sample(tmp_path, epoch=1, saved_at=ahead)
    path = save_checkpoint(tmp_path / "mine", training().model, epoch=2)["path"]
    assert scan(tmp_path)[0].name == "mine"
    assert read_meta(path).saved_at == ahead + timedelta(microseconds=1)

    def refuse(root: Path) -> None:
        raise PermissionError

    monkeypatch.setattr("smartcash_format.manager.functions.scan", refuse)
    save_checkpoint(tmp_path / "unlisted", training().model, epoch=3)
    assert scan(tmp_path).by_epoch(3) is not None
