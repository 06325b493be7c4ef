"""What a manager answers without changing a checkpoint: find, filter, validate, history."""

from __future__ import annotations

import errno
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.errors import CheckpointWriteError
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.store.checkpoint_store import CheckpointStore
from tests.manager.training import manager, said, training

pytestmark = pytest.mark.torch


def filled(root: Path, **options: Any) -> CheckpointManager:
    """Epochs 1 to 4, the best val_loss at 2, flagged at 1 and 2, another backbone at 4."""
    made, _ = manager(root, **options)
    live = training()
    for epoch, loss in enumerate((0.4, 0.1, 0.2, 0.3), 1):
        made.save_checkpoint(
            **live.live(),
            epoch=epoch,
            metrics={"val_loss": loss},
            is_best=epoch <= 2,
            backbone="b4" if epoch < 4 else "darknet",
            dataset="roboflow",
            tags=["release"] if epoch == 3 else [],
        )
    return made


def epochs(entries: Any) -> list[int]:
    return [entry.epoch for entry in entries]


@pytest.mark.parametrize(
    ("call", "names", "defaults"),
    [
        (CheckpointManager.__init__, "output_dir logger", ["runs/train/weights", None]),
        (
            CheckpointManager.save_checkpoint,
            "model optimizer scheduler config epoch metrics is_best save_optimizer",
            [None, None, None, ..., None, None, True],
        ),
        (
            CheckpointManager.load_checkpoint,
            "checkpoint_path device model optimizer scheduler",
            [None] * 5,
        ),
        (CheckpointManager.find_best_checkpoint, "metric mode", [None, None]),
        (CheckpointManager.find_latest_checkpoint, "", []),
        (CheckpointManager.find_checkpoint_by_epoch, "epoch", []),
        (CheckpointManager.list_checkpoints, "", []),
        (
            CheckpointManager.filter_checkpoints,
            "backbone dataset min_epoch max_epoch",
            [None] * 4,
        ),
        (
            CheckpointManager.cleanup_checkpoints,
            "max_checkpoints keep_best keep_latest max_epochs",
            [5, True, True, None],
        ),
        (
            CheckpointManager.copy_to_drive,
            "drive_dir best_only",
            ["/content/drive/MyDrive/SmartCash/checkpoints", False],
        ),
        (CheckpointManager.get_training_history, "", []),
        (CheckpointManager.export_history_to_json, "path", [None]),
        (CheckpointManager.display_checkpoints, "", []),
        (CheckpointManager.validate_checkpoint, "path", []),
    ],
)
def test_the_seeds_calls_have_their_words_in_their_order(
    call: Callable[..., object], names: str, defaults: list[object]
) -> None:
    found = [
        parameter
        for parameter in inspect.signature(call).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name != "self"
    ]
    assert [parameter.name for parameter in found] == names.split()
    given = [p.default for p in found if p.default is not inspect.Parameter.empty]
    assert given == defaults


def test_the_best_is_by_the_metric_given_else_the_monitor_else_the_last_flag(
    tmp_path: Path,
) -> None:
    flags = filled(tmp_path)
    monitor, _ = manager(tmp_path, monitor="val_loss", mode="max")
    for found, epoch in (
        (flags.find_best_checkpoint(), 2),
        (monitor.find_best_checkpoint(), 1),
        (monitor.find_best_checkpoint("val_loss", "min"), 2),
    ):
        assert found is not None
        assert found.epoch == epoch
    assert flags.find_best_checkpoint("val_map", "max") is None
    with pytest.raises(ValueError, match="go together"):
        flags.find_best_checkpoint("val_loss")


def test_filters_are_anded_inclusive_and_exact(tmp_path: Path) -> None:
    made = filled(tmp_path)
    assert epochs(made.filter_checkpoints()) == [4, 3, 2, 1]
    assert epochs(made.filter_checkpoints("b4", "roboflow", 2, 3)) == [3, 2]
    assert epochs(made.filter_checkpoints(backbone="B4")) == []
    assert epochs(made.filter_checkpoints(is_best=True, min_epoch=2)) == [2]
    assert epochs(made.filter_checkpoints(metrics={"val_loss": "<=0.2"})) == [3, 2]
    assert epochs(made.filter_checkpoints(tags="release")) == [3]
    assert epochs(made.filter_checkpoints(tags=["release"], since="2020-01-01")) == [3]
    assert epochs(made.filter_checkpoints(until="2020-01-01")) == []
    assert epochs(made.filter_checkpoints(where=lambda entry: entry.epoch % 2 == 0)) == [4, 2]


def test_a_listing_has_the_broken_beside_it_and_one_warning_with_their_count(
    tmp_path: Path,
) -> None:
    filled(tmp_path)
    made, log = manager(tmp_path)
    for entry in made.list_checkpoints()[:2]:
        (entry / "meta.json").write_bytes(b"{")
    listing = made.list_checkpoints()
    assert (epochs(listing), len(listing.broken)) == ([2, 1], 2)
    assert [line for line in said(log, "warning").splitlines() if "2 in" in line] == [
        said(log, "warning")
    ]


def test_the_table_marks_only_the_one_that_is_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = filled(tmp_path)
    made.display_checkpoints()
    starred = [line for line in capsys.readouterr().out.splitlines() if line.startswith("★")]
    assert len(starred) == 1
    assert "epoch-0002" in starred[0]


def test_a_validation_has_the_seeds_keys_and_names_its_depth(tmp_path: Path) -> None:
    made = filled(tmp_path)
    entry = made.list_checkpoints()[0]
    for path in (entry, entry.name, str(entry)):
        valid, info = made.validate_checkpoint(path)
        assert valid
        assert info == {
            "valid": True,
            "message": "valid and complete (structure; contents not hashed: depth=CONTENT)",
            "depth": "STRUCTURE",
            "problems": [],
            "epoch": 4,
            "timestamp": entry.saved_at.isoformat(),
        }


def test_a_validation_never_raises_for_what_it_finds(tmp_path: Path) -> None:
    made = filled(tmp_path)
    broken = made.list_checkpoints()[0].path
    (broken / "optimizer.pt").unlink()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "old.pth").write_bytes(b"\x80\x02.")
    for path, words in (
        (broken, "optimizer.pt"),
        (tmp_path / "foreign", "no meta.json"),
        (tmp_path / "old.pth", f"smartcash-format convert {tmp_path / 'old.pth'} -o ROOT"),
        ("path/to/checkpoint.pth", "does not exist"),
        ("", "no meta.json"),
    ):
        valid, info = made.validate_checkpoint(path)
        assert not valid
        assert not info["valid"]
        assert words in info["message"]
        assert info["problems"]


def test_an_export_goes_to_the_path_given_or_beside_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = filled(tmp_path / "root")
    monkeypatch.chdir(tmp_path)
    assert made.export_history_to_json("history.json") == Path("history.json")
    assert made.export_history_to_json() == tmp_path / "root" / "training_history.json"
    for path in (tmp_path / "history.json", tmp_path / "root" / "training_history.json"):
        assert json.loads(path.read_text("utf-8")) == made.get_training_history()
    assert set(made.get_training_history()) == {"total_runs", "runs", "best", "last_resume"}
    assert set(made.get_training_history()["runs"][0]) == {
        "run_id", "started_at", "ended_at", "resumed_from", "first_epoch", "last_epoch", "saves",
        "best",
    }  # fmt: skip


def test_a_history_that_cannot_be_read_is_not_called_an_export_that_cannot_be_written(
    tmp_path: Path,
) -> None:
    made = filled(tmp_path)
    (tmp_path / "training_history.yaml").unlink()
    (tmp_path / "training_history.yaml").mkdir()
    with pytest.raises(OSError, match=r"is a directory.*training_history\.yaml") as caught:
        made.export_history_to_json()
    assert not isinstance(caught.value, CheckpointWriteError)
    assert not (tmp_path / "training_history.json").exists()


def test_an_export_that_cannot_be_written_says_where_and_makes_nothing(tmp_path: Path) -> None:
    made, _ = manager(tmp_path / "nowhere")
    with pytest.raises(CheckpointWriteError, match=r"training_history\.json was not written") as no:
        made.export_history_to_json()
    assert no.value.errno == errno.ENOENT
    with pytest.raises(CheckpointWriteError, match="was not written"):
        CheckpointStore(tmp_path / "nowhere").export_history()
    assert not (tmp_path / "nowhere").exists()


def test_a_history_that_is_missing_is_rebuilt_and_said_so(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "training_history.yaml").unlink()
    made, log = manager(tmp_path)
    history = made.get_training_history()
    assert (history["total_runs"], history["runs"][0]["saves"]) == (1, 4)
    assert "made anew from its checkpoints" in said(log, "warning")
    assert not (tmp_path / "training_history.yaml").exists()


def test_every_save_is_a_flat_row_that_a_table_takes(tmp_path: Path) -> None:
    filled(tmp_path)
    rows = manager(tmp_path)[0].training_rows()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert all(isinstance(row["metrics.val_loss"], float) for row in rows)
    assert not any(isinstance(value, dict | list) for row in rows for value in row.values())
