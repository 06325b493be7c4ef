"""What a first user mistakes for something else: every such call says so, and changes nothing."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from smartcash_format import (
    CheckpointManager,
    KeepLast,
    convert,
    export,
    receive,
    save_checkpoint,
    share,
    transfer,
    validate,
)
from smartcash_format.disk import drive
from smartcash_format.errors import (
    CheckpointError,
    CheckpointExistsError,
    CheckpointNotFoundError,
    CheckpointWriteError,
    UnsavableStateError,
)
from smartcash_format.testing.sample import write_sample
from tests.manager.training import manager, said, training

pytestmark = pytest.mark.torch


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "weights", epoch=3)


def test_nothing_is_saved_into_or_below_a_checkpoint_or_a_link_to_one(
    checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(checkpoint)
    before = sorted(os.listdir(checkpoint))
    for root in (checkpoint, checkpoint / "more", checkpoint / "a" / "b", tmp_path / "link"):
        made, _ = manager(root)
        with pytest.raises(CheckpointWriteError, match=r"checkpoint.*its root is .*weights$"):
            made.save_checkpoint(**training().live(), epoch=4)
    assert sorted(os.listdir(checkpoint)) == before


def test_nothing_is_copied_converted_or_received_into_a_checkpoint(
    checkpoint: Path, tmp_path: Path
) -> None:
    other = write_sample(tmp_path / "other", epoch=1)
    with pytest.raises(CheckpointWriteError, match="is a checkpoint"):
        transfer([other], checkpoint)
    with pytest.raises(CheckpointWriteError, match="is a checkpoint"):
        receive(other, checkpoint)
    with pytest.raises(CheckpointWriteError, match="is a checkpoint"):
        convert(other / "model.safetensors", checkpoint)


def test_a_root_may_have_a_meta_json_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"run": "mine"}')
    made, _ = manager(tmp_path)
    made.save_checkpoint(**training().live(), epoch=1)
    assert made.load_checkpoint("latest")["epoch"] == 1


@pytest.mark.parametrize("asked", [None, "latest", "best", 3])
def test_a_root_that_is_a_checkpoint_is_no_fresh_start(
    checkpoint: Path, asked: str | int | None
) -> None:
    made, _ = manager(checkpoint)
    with pytest.raises(CheckpointNotFoundError, match=r"is a checkpoint.*its root is .*weights"):
        made.load_checkpoint(asked, **training().live(), missing_ok=True)
    with pytest.raises(CheckpointNotFoundError, match="is a checkpoint"):
        made.load_checkpoint(asked, fallback=True)


def test_a_listing_of_a_checkpoint_says_what_it_is(checkpoint: Path) -> None:
    made, log = manager(checkpoint)
    assert len(made.list_checkpoints()) == 0
    assert made.find_latest_checkpoint() is None
    assert "is a checkpoint" in said(log, "warning")


def test_a_resume_by_path_writes_no_history_into_a_checkpoint(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = manager(checkpoint.parent)
    live = training()
    saved = made.save_checkpoint(**live.live(), epoch=4)["path"]
    before = sorted(os.listdir(saved))
    monkeypatch.chdir(saved)
    inside, _ = manager(Path())
    inside.load_checkpoint(saved, **live.live())
    assert sorted(os.listdir(saved)) == before


@pytest.mark.parametrize(
    ("place", "what", "order"),
    [
        ("model", "optimizer", "model is AdamW, an optimizer"),
        ("model", "scheduler", "model is CosineAnnealingLR, a scheduler"),
        ("optimizer", "model", "optimizer is Sequential, a module"),
        ("optimizer", "scheduler", "optimizer is CosineAnnealingLR, a scheduler"),
        ("scheduler", "model", "scheduler is Sequential, a module"),
        ("scheduler", "optimizer", "scheduler is AdamW, an optimizer"),
    ],
)
def test_live_objects_in_each_others_places_are_neither_saved_nor_loaded(
    tmp_path: Path, place: str, what: str, order: str
) -> None:
    made, _ = manager(tmp_path)
    live = training().live()
    made.save_checkpoint(**live, epoch=1)
    wrong = {**live, place: live[what]}
    with pytest.raises(UnsavableStateError, match=f"{order}; the order is model, optimizer, sch"):
        made.save_checkpoint(**wrong, epoch=2)
    with pytest.raises(CheckpointError, match=f"{order}; the order is model, optimizer, sch"):
        made.load_checkpoint("latest", **wrong)
    assert len(made.list_checkpoints()) == 1


def test_a_live_object_in_the_place_of_the_path_says_how_it_is_passed(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    live = training().live()
    made.save_checkpoint(**live, epoch=1)
    with pytest.raises(TypeError, match=r"checkpoint_path is Sequential.*model=model"):
        made.load_checkpoint(live["model"])
    with pytest.raises(TypeError, match=r"checkpoint_path is float"):
        made.load_checkpoint(1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"path is NoneType.*find_best_checkpoint"):
        made.validate_checkpoint(made.find_best_checkpoint())  # type: ignore[arg-type]


def test_a_path_that_is_not_there_says_what_else_is_taken(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    live = training().live()
    name = made.save_checkpoint(**live, epoch=3)["path"].name
    with pytest.raises(CheckpointNotFoundError, match=r"an epoch is a number: load_check.*\(3\)"):
        made.load_checkpoint("3", model=live["model"])
    with pytest.raises(CheckpointNotFoundError, match=r"lates: no such.*did you mean 'latest'"):
        made.load_checkpoint("lates", model=live["model"])
    with pytest.raises(CheckpointNotFoundError, match=f"did you mean '{name}'"):
        made.load_checkpoint(name[:-1], model=live["model"])
    with pytest.raises(CheckpointNotFoundError, match=r'a path, an epoch, "best" or "latest"'):
        made.load_checkpoint("elsewhere", model=live["model"], missing_ok=True)


@pytest.mark.parametrize("epoch", ["3", 3.0, True])
def test_an_epoch_that_is_no_whole_number_is_not_just_absent(tmp_path: Path, epoch: object) -> None:
    made, _ = manager(tmp_path)
    made.save_checkpoint(**training().live(), epoch=3)
    with pytest.raises(TypeError, match="epoch is a whole number, not"):
        made.find_checkpoint_by_epoch(epoch)  # type: ignore[arg-type]
    assert made.find_checkpoint_by_epoch(-1) is None


@pytest.mark.parametrize("is_best", [{"loss": 0.1}, "False", [], ()])
def test_a_flag_that_is_none_is_not_taken_for_true(tmp_path: Path, is_best: object) -> None:
    made, _ = manager(tmp_path)
    live = training().live()
    with pytest.raises(
        TypeError, match=r"is_best is .*; the order is \.\.\., epoch, metrics, is_b"
    ):
        made.save_checkpoint(**live, epoch=1, is_best=is_best)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is_best is"):
        save_checkpoint(tmp_path / "c", live["model"], is_best=is_best)  # type: ignore[arg-type]
    for flagged in (torch.tensor(0.1) < 0.2, np.float32(0.1) < 0.2):
        saved = made.save_checkpoint(**live, epoch=1, is_best=flagged)  # type: ignore[arg-type]
        assert saved["type"] == "best"


@pytest.mark.parametrize("keep", [3, "last", KeepLast, True])
def test_keep_that_is_no_policy_is_refused_before_training(tmp_path: Path, keep: object) -> None:
    with pytest.raises(TypeError, match=r"keep is .*; it is a policy, such as KeepLast\(3\)"):
        CheckpointManager(tmp_path, keep=keep)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'3' is str; a number to keep is whole"):
        KeepLast("3")  # type: ignore[arg-type]


def test_a_home_that_only_a_shell_expands_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("~/runs", Path("~/runs"), "~"):
        with pytest.raises(ValueError, match=r"only a shell expands.*expanduser\(\)"):
            CheckpointManager(path)
    made, _ = manager(tmp_path / "a~b")
    made.save_checkpoint(**training().live(), epoch=1)
    with pytest.raises(ValueError, match="only a shell expands"):
        made.copy_to_drive("~/copies")
    entry = made.list_checkpoints()[0]
    for write in (
        lambda: save_checkpoint("~/c", training().model),
        lambda: convert(entry / "model.safetensors", "~/root"),
        lambda: receive(entry, "~/root"),
        lambda: transfer(entry, "~/root"),
        lambda: share(entry, "~/public"),
        lambda: export(entry, "~/weights.safetensors"),
    ):
        with pytest.raises(OSError, match="only a shell expands") as caught:
            write()
        assert isinstance(caught.value, CheckpointError)
    assert os.listdir(tmp_path) == ["a~b"]
    with pytest.raises(TypeError, match="output_dir is NoneType, not a path"):
        CheckpointManager(None)  # type: ignore[arg-type]


@pytest.fixture
def unmounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is on Google Drive while that is mounted, which it is not."""
    mount_point = Path(os.path.realpath(tmp_path)) / "content" / "drive"
    monkeypatch.setattr(drive, "DRIVE", mount_point)
    return mount_point / "MyDrive" / "weights"


def test_nothing_is_saved_where_drive_would_be_mounted(unmounted: Path, tmp_path: Path) -> None:
    made, _ = manager(unmounted)
    live = training().live()
    with pytest.raises(CheckpointWriteError, match=r"not saved: .*is not on Google Drive.*\n.*col"):
        made.save_checkpoint(**live, epoch=1)
    with pytest.raises(CheckpointWriteError, match="is not on Google Drive"):
        receive(other := write_sample(tmp_path / "other", epoch=1), unmounted)
    with pytest.raises(CheckpointWriteError, match=r"not converted: .*is not on Google Drive"):
        convert(other / "model.safetensors", unmounted)
    assert not (tmp_path / "content").exists()


def test_a_drive_that_is_not_mounted_is_no_fresh_start(unmounted: Path) -> None:
    made, log = manager(unmounted)
    for asked in (None, "latest", 3):
        with pytest.raises(CheckpointNotFoundError, match=r"drive\.mount"):
            made.load_checkpoint(asked, **training().live(), missing_ok=True)
    assert len(made.list_checkpoints()) == 0
    assert "is not on Google Drive" in said(log, "warning")


def test_a_guard_whose_state_is_no_function_is_refused_before_a_signal_comes(
    tmp_path: Path,
) -> None:
    made, _ = manager(tmp_path)
    with pytest.raises(TypeError, match=r"state is dict; it is a function.*lambda: \{"):
        made.guard({"model": training().model, "epoch": 1})  # type: ignore[arg-type]


def test_results_are_mappings_and_say_so(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    live = training().live()
    saved = made.save_checkpoint(**live, epoch=1)
    assert repr(saved).startswith(f"SaveResult({{'path': {saved['path']!r}, 'type': 'latest', ")
    with pytest.raises(AttributeError, match=r"SaveResult has no attribute 'path'; .*\['path'\]"):
        saved.path  # type: ignore[attr-defined] # noqa: B018
    loaded = made.load_checkpoint("latest", **live)
    with pytest.raises(AttributeError, match=r"LoadResult has no attribute 'epoch'; .*\['epoch'\]"):
        loaded.epoch  # type: ignore[attr-defined] # noqa: B018
    for result in (saved, loaded):
        with pytest.raises(AttributeError, match=r"has no attribute 'elsewhere'$"):
            getattr(result, "else" + "where")
        assert copy.copy(result).keys() == result.keys()


@pytest.mark.parametrize("depth", ["content", 2])
def test_a_depth_that_is_none_says_what_one_is(tmp_path: Path, depth: object) -> None:
    path = write_sample(tmp_path, epoch=1)
    with pytest.raises(TypeError, match=r"depth is .*; it is Depth\.META, Depth\.STRUCTURE or"):
        validate(path, depth=depth)  # type: ignore[arg-type]


def test_a_monitor_or_a_filter_of_an_unknown_metric_is_said(tmp_path: Path) -> None:
    first, _ = manager(tmp_path, monitor="val_map", mode="max")
    live = training().live()
    first.save_checkpoint(**live, epoch=1, metrics={"val_map": 0.5})
    said_of = "no checkpoint has the metric 'val_mpa'; did you mean 'val_map'?"
    other, log = manager(tmp_path, monitor="val_mpa", mode="max")
    assert other.find_best_checkpoint() is None
    assert said_of in said(log, "warning")
    other, log = manager(tmp_path, monitor="val_mpa", mode="max")
    assert other.load_checkpoint(**live)["epoch"] == 1
    assert said_of in said(log, "warning")
    other, log = manager(tmp_path, monitor="val_mpa", mode="max")
    with pytest.raises(CheckpointNotFoundError, match="none is marked or ranked best"):
        other.load_checkpoint("best", **live)
    assert said_of in said(log, "warning")
    other, log = manager(tmp_path)
    assert len(other.filter_checkpoints(metrics={"val_mpa": ">=0.1"})) == 0
    assert said_of in said(log, "warning")
    first, log = manager(tmp_path, monitor="val_map", mode="max")
    assert first.filter_checkpoints(metrics={"val_map": ">=0.9"}).entries == ()
    assert first.load_checkpoint(**live)["epoch"] == 1
    assert "no checkpoint has" not in said(log, "warning")


def test_a_checkpoint_is_not_converted_into_one_without_its_metadata(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "ours", epoch=4)
    with pytest.raises(
        CheckpointExistsError, match=r"is a checkpoint already; .*receive .* copies"
    ):
        convert(path, tmp_path / "root")
    assert os.listdir(tmp_path) == ["ours"]


def test_one_path_and_paths_as_text_are_copied(tmp_path: Path) -> None:
    first, second = (write_sample(tmp_path / "runs", epoch=epoch) for epoch in (1, 2))
    copies = tmp_path / "copies"
    assert transfer(str(first), str(copies)).copied == (copies / first.name,)
    assert transfer(second, copies).copied == (copies / second.name,)
    assert len(transfer(map(str, (first, second)), copies).skipped) == 2
