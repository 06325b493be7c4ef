"""cleanup_checkpoints, protect and copy_to_drive, as a training loop calls them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from smartcash_format.disk import transfer
from smartcash_format.disk.drive import drive_notice
from smartcash_format.disk.observe import validate
from smartcash_format.errors import CheckpointNotFoundError
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.spec.problems import Depth
from smartcash_format.store.entry import Entry
from smartcash_format.store.retention import KeepBest, KeepLast, Policy
from tests.manager.training import manager, said, training

pytestmark = pytest.mark.torch


def filled(root: Path, count: int = 5) -> CheckpointManager:
    """Epochs 1 to `count`, the second one flagged best."""
    made, _ = manager(root)
    model = training().model
    for epoch in range(1, count + 1):
        made.save_checkpoint(model, epoch=epoch, is_best=epoch == 2)
    return made


def epochs(made: CheckpointManager) -> list[int]:
    return [entry.epoch for entry in made.list_checkpoints()]


def test_a_cleanup_returns_what_went_oldest_first_and_a_dry_run_removes_nothing(
    tmp_path: Path,
) -> None:
    made = filled(tmp_path)
    by_epoch = {entry.epoch: entry.path for entry in made.list_checkpoints()}
    expected = [by_epoch[1], by_epoch[3]]
    assert made.cleanup_checkpoints(max_checkpoints=2, dry_run=True) == expected
    assert epochs(made) == [5, 4, 3, 2, 1]
    plan = made.plan_cleanup(max_checkpoints=2)
    assert [entry.path for entry in plan.doomed] == expected
    assert all(decision.reasons for decision in plan.decisions if decision.action == "keep")
    assert made.cleanup_checkpoints(max_checkpoints=2) == expected
    assert epochs(made) == [5, 4, 2]


def test_whatever_is_asked_the_best_the_newest_valid_the_protected_and_the_broken_stay(
    tmp_path: Path,
) -> None:
    made = filled(tmp_path)
    by_epoch = {entry.epoch: entry for entry in made.list_checkpoints()}
    made.protect(by_epoch[1], "paper")
    (by_epoch[5] / "model.safetensors").unlink()
    (tmp_path / "foreign").mkdir()
    removed = made.cleanup_checkpoints(0, keep_best=False, keep_latest=False, max_epochs=0)
    assert removed == [by_epoch[3].path]
    assert (by_epoch[5] / "meta.json").exists()
    assert (tmp_path / "foreign").exists()
    made.unprotect(by_epoch[1].name)
    assert made.cleanup_checkpoints(max_checkpoints=0) == [by_epoch[1].path]
    assert epochs(made) == [4, 2]


def test_a_cleanup_never_removes_the_newest_on_a_machine_whose_clock_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime, timedelta

    from smartcash_format.manager import saver

    made = filled(tmp_path)
    earlier = datetime.now(UTC) - timedelta(hours=1)

    class Slow(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return earlier

    monkeypatch.setattr(saver, "datetime", Slow)
    newest = made.save_checkpoint(training().model, epoch=1)["path"]
    removed = made.cleanup_checkpoints(max_checkpoints=1)
    assert len(removed) == 4
    assert newest.is_dir()
    latest = made.find_latest_checkpoint()
    assert latest is not None
    assert latest.path == newest


def test_a_copy_takes_what_is_valid_and_not_there_and_says_what_it_skipped(tmp_path: Path) -> None:
    filled(tmp_path / "root", 3)
    made, log = manager(tmp_path / "root")
    third, second, first = made.list_checkpoints()
    (third / "model.safetensors").unlink()
    drive = tmp_path / "drive" / "deep"
    copied = made.copy_to_drive(drive)
    assert copied == [drive / first.name, drive / second.name]
    assert all(validate(path, Depth.CONTENT).valid for path in copied)
    assert "cannot be read as a checkpoint" in said(log, "warning")
    assert str(drive) in said(log, "info")
    again = made.copy_to_drive(drive)
    assert again == []
    assert [(skip.source, skip.kind) for skip in again.skipped] == [
        (first.path, "identical"), (second.path, "identical"),
    ]  # fmt: skip
    assert made.output_dir == tmp_path / "root"


def test_best_only_copies_exactly_what_a_load_would_load(tmp_path: Path) -> None:
    flagged = filled(tmp_path / "flagged", 3)
    plain, _ = manager(tmp_path / "plain")
    plain.save_checkpoint(training().model, epoch=1)
    plain.save_checkpoint(training().model, epoch=2)
    for made in (flagged, plain):
        loaded = Path(made.load_checkpoint()["loaded_from"])
        (copied,) = made.copy_to_drive(tmp_path / "drive", best_only=True)
        assert copied == tmp_path / "drive" / loaded.name


def test_a_drive_that_is_not_mounted_is_refused_with_the_lines_that_mount_it(
    tmp_path: Path,
) -> None:
    made = filled(tmp_path, 1)
    with pytest.raises(CheckpointNotFoundError) as caught:
        made.copy_to_drive()
    assert "from google.colab import drive" in str(caught.value)
    assert 'drive.mount("/content/drive")' in str(caught.value)
    assert not Path("/content/drive/MyDrive").exists()


def test_on_drive_the_result_says_that_the_upload_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, log = manager(tmp_path / "root")
    made.save_checkpoint(training().model, epoch=1)
    assert made.copy_to_drive(tmp_path / "local").note == ""
    from smartcash_format.manager import checkpoint_manager

    mounted = partial(drive_notice, mount_point=tmp_path / "drive")
    monkeypatch.setattr(checkpoint_manager, "drive_notice", mounted)
    copied = made.copy_to_drive(tmp_path / "drive")
    assert "drive.flush_and_unmount()" in copied.note
    assert copied.note in said(log, "info")


class Whimsical(Policy):
    """A policy of a user's own, with a mistake in it."""

    def keeps(self, entries: Sequence[Entry]) -> dict[Entry, str]:
        raise KeyError("val_map")


@pytest.mark.parametrize("policy", [Whimsical(), KeepLast(1) | Whimsical()])
def test_a_policy_that_fails_costs_no_save(tmp_path: Path, policy: Policy) -> None:
    made, log = manager(tmp_path, keep=policy)
    for epoch in (1, 2):
        saved = made.save_checkpoint(training().model, epoch=epoch)
        assert "failed after this save, which stands: KeyError: 'val_map'" in saved["warnings"][0]
    assert epochs(made) == [2, 1]
    assert "Whimsical" in said(log, "warning")


def test_a_mistyped_metric_of_keep_is_told_once_and_removes_nothing(tmp_path: Path) -> None:
    made, log = manager(tmp_path, keep=KeepLast(1) | KeepBest("val_mpa", mode="max"))
    for epoch in (1, 2, 3):
        made.save_checkpoint(training().model, epoch=epoch, metrics={"val_map": 0.1 * epoch})
    assert epochs(made) == [3, 2, 1]
    assert said(log, "warning").count("did you mean 'val_map'?") == 1
    made.find_best_checkpoint("val_mpa", "max")
    assert said(log, "warning").count("did you mean 'val_map'?") == 2


@pytest.mark.parametrize("best_only", [False, True])
def test_a_root_of_which_nothing_is_copied_is_named(tmp_path: Path, best_only: bool) -> None:
    made, log = manager(tmp_path / "typo")
    assert made.copy_to_drive(tmp_path / "copies", best_only=best_only) == []
    assert f"{tmp_path / 'typo'} has no checkpoint: nothing was copied" in said(log, "warning")


def test_a_large_copy_that_has_rotted_is_seen_when_asked_to_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SMALL_BYTES", 0)
    made = filled(tmp_path / "root", 1)
    (copy,) = made.copy_to_drive(tmp_path / "copies")
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert made.copy_to_drive(tmp_path / "copies") == []
    (sound,) = made.copy_to_drive(tmp_path / "copies", verify=True)
    assert sound != copy
    assert validate(sound, Depth.CONTENT).valid
