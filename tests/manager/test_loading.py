"""load_checkpoint: which one, what comes back, and when nothing changes."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smartcash_format.disk import read
from smartcash_format.errors import (
    CheckpointNotFoundError,
    InvalidCheckpointError,
    StateMismatchError,
    UnsupportedVersionError,
)
from smartcash_format.spec.digest import seal
from smartcash_format.spec.documents import parse_json
from smartcash_format.store.catalog import Listing
from tests.manager.training import Training, manager, said, same, training

pytestmark = pytest.mark.torch


def three_epochs(root: Path) -> Training:
    """Three checkpoints, the second one flagged best; the live objects stand after the third."""
    made, _ = manager(root)
    live = training()
    for epoch in (1, 2, 3):
        live.step()
        made.save_checkpoint(
            **live.live(), epoch=epoch, is_best=epoch == 2, metrics={"loss": 1.0 / epoch}
        )
    return live


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    live = three_epochs(tmp_path)
    ahead = [live.step() for _ in range(5)]
    end = live.state()
    other = training(seed=9)
    made, _ = manager(tmp_path)
    result = made.load_checkpoint("latest", **other.live())
    assert result["epoch"] == 3
    assert [other.step() for _ in range(5)] == ahead
    assert same(other.state(), end)


def test_a_load_into_another_dtype_says_so_in_its_line(tmp_path: Path) -> None:
    live = three_epochs(tmp_path)
    made, log = manager(tmp_path)
    made.load_checkpoint("latest", model=live.model)
    assert "cast" not in said(log, "info")
    made.load_checkpoint("latest", model=live.model.bfloat16())
    count = sum(value.is_floating_point() for value in live.model.state_dict().values())
    assert f", {count} tensors cast F32 to BF16, " in said(log, "info")


def test_none_is_the_best_and_says_which_is_newer(tmp_path: Path) -> None:
    three_epochs(tmp_path)
    made, log = manager(tmp_path)
    result = made.load_checkpoint()
    assert result["epoch"] == 2
    assert 'load_checkpoint("latest")' in said(log, "info")
    latest = made.find_latest_checkpoint()
    assert latest is not None
    assert latest.name in said(log, "info")


def test_none_is_the_newest_when_nothing_ranks_and_it_is_said(tmp_path: Path) -> None:
    made, log = manager(tmp_path)
    live = training()
    made.save_checkpoint(live.model, epoch=1)
    made.save_checkpoint(live.model, epoch=2)
    assert made.load_checkpoint()["epoch"] == 2
    assert "taking the newest" in said(log, "info")
    with pytest.raises(CheckpointNotFoundError, match="none is marked"):
        made.load_checkpoint("best")


def test_an_epoch_a_name_and_a_path_each_choose(tmp_path: Path) -> None:
    three_epochs(tmp_path)
    made, _ = manager(tmp_path)
    entry = made.find_checkpoint_by_epoch(1)
    assert entry is not None
    for chosen in (1, np.int64(1), entry, entry.path, str(entry), entry.name):
        assert made.load_checkpoint(chosen)["epoch"] == 1
    with pytest.raises(CheckpointNotFoundError) as caught:
        made.load_checkpoint(7)
    assert caught.value.nearest == "3"


def test_weights_alone_change_nothing_but_the_model(tmp_path: Path) -> None:
    three_epochs(tmp_path)
    other = training(seed=9)
    before = other.state()
    made, _ = manager(tmp_path)
    lines = (tmp_path / "training_history.yaml").read_text()
    made.load_checkpoint("latest", model=other.model)
    after = other.state()
    assert not same(before["model"], after["model"])
    for part in ("optimizer", "scheduler", "rng"):
        assert same(before[part], after[part])
    assert (tmp_path / "training_history.yaml").read_text() == lines


def test_an_empty_root_raises_with_the_idiom_and_missing_ok_starts_fresh(tmp_path: Path) -> None:
    made, log = manager(tmp_path / "nowhere")
    with pytest.raises(CheckpointNotFoundError, match="missing_ok=True"):
        made.load_checkpoint()
    result = made.load_checkpoint("latest", model=training().model, missing_ok=True)
    assert not result.found
    assert result.get("epoch", 0) == 0
    assert "fresh start" in said(log, "info")
    assert not (tmp_path / "nowhere").exists()


def test_broken_ones_never_become_a_fresh_start(tmp_path: Path) -> None:
    three_epochs(tmp_path)
    for path in tmp_path.glob("epoch-*"):
        (path / "model.safetensors").unlink()
    made, log = manager(tmp_path)
    with pytest.raises(InvalidCheckpointError) as caught:
        made.load_checkpoint("latest", missing_ok=True)
    assert {problem.code for problem in caught.value.problems} == {"file-missing"}
    assert len(made.list_checkpoints().broken) == 3
    assert "3 in" in said(log, "warning")


@pytest.mark.parametrize("part", ["meta.json", "model.safetensors", "optimizer.pt"])
def test_the_last_one_saved_is_the_latest_also_when_it_cannot_be_read(
    tmp_path: Path, part: str
) -> None:
    three_epochs(tmp_path)
    made, log = manager(tmp_path)
    newest, before, _ = made.list_checkpoints()
    (newest / part).write_bytes(b"{")
    with pytest.raises(InvalidCheckpointError, match="fallback=True") as caught:
        made.load_checkpoint("latest")
    assert caught.value.path == newest.path
    assert before.name in str(caught.value)
    assert caught.value.problems
    assert made.load_checkpoint(before.path)["epoch"] == made.load_checkpoint("best")["epoch"] == 2
    log.lines.clear()
    assert made.load_checkpoint("latest", fallback=True)["epoch"] == 2
    assert f"skipped {newest.name}" in said(log, "warning")


@pytest.mark.parametrize("is_unreadable", [False, True])
def test_without_a_history_the_time_of_what_is_incomplete_is_its_own(
    tmp_path: Path, is_unreadable: bool
) -> None:
    three_epochs(tmp_path)
    (tmp_path / "training_history.yaml").unlink()
    if is_unreadable:
        (tmp_path / "training_history.yaml").mkdir()
    made, _ = manager(tmp_path)
    newest, *_ = made.list_checkpoints()
    (newest / "model.safetensors").unlink()
    with pytest.raises(InvalidCheckpointError, match="the last one saved"):
        made.load_checkpoint("latest")


@pytest.mark.parametrize("which", ["older", "of an unknown time"])
def test_a_load_that_passes_over_a_broken_one_says_so(tmp_path: Path, which: str) -> None:
    three_epochs(tmp_path)
    made, log = manager(tmp_path)
    chosen = made.list_checkpoints()[0 if which == "of an unknown time" else 1]
    (chosen / "meta.json").write_bytes(b"{")
    if which == "of an unknown time":
        (tmp_path / "training_history.yaml").unlink()
    log.lines.clear()
    assert made.load_checkpoint("latest")["epoch"] == (3 if which == "older" else 2)
    assert len(said(log, "warning").splitlines()) == 1
    assert f"1 in {tmp_path} cannot be read as a checkpoint" in said(log, "warning")
    assert chosen.name in said(log, "warning")


def test_a_root_of_foreign_files_is_empty_and_counts_old_pickles(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"\x80\x02.")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "images").mkdir()
    made, _ = manager(tmp_path)
    assert len(made.list_checkpoints()) == 0
    with pytest.raises(CheckpointNotFoundError, match="smartcash-format convert"):
        made.load_checkpoint()
    with pytest.raises(InvalidCheckpointError, match="convert"):
        made.load_checkpoint(tmp_path / "best.pt")
    valid, info = made.validate_checkpoint(tmp_path / "best.pt")
    assert not valid
    assert "convert" in info["message"]


def rewritten(path: Path, **fields: Any) -> None:
    document, problems = parse_json((path / "meta.json").read_bytes(), where="", max_bytes=1 << 20)
    assert not problems
    (path / "meta.json").write_bytes(seal({**document, **fields}))


def test_a_newer_version_is_named_and_refuses_best_and_latest(tmp_path: Path) -> None:
    three_epochs(tmp_path)
    made, _ = manager(tmp_path)
    newest = made.find_latest_checkpoint()
    assert newest is not None
    rewritten(newest.path, format_version="2.0")
    for asked in ("latest", "best", None):
        with pytest.raises(UnsupportedVersionError, match=newest.name):
            made.load_checkpoint(asked)
    assert made.load_checkpoint(1)["epoch"] == 1
    with pytest.raises(UnsupportedVersionError) as caught:
        made.load_checkpoint(newest.path)
    assert caught.value.found == "2.0"


def test_a_load_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    three_epochs(tmp_path)
    other = training(seed=9, width=7)
    before = other.state()
    made, _ = manager(tmp_path)
    with pytest.raises(StateMismatchError) as caught:
        made.load_checkpoint("latest", **other.live())
    assert {problem.code for problem in caught.value.problems} >= {"shape-mismatch"}
    assert same(other.state(), before)


def test_a_truncated_or_missing_part_changes_nothing(tmp_path: Path) -> None:
    three_epochs(tmp_path)
    made, _ = manager(tmp_path)
    newest = made.find_latest_checkpoint()
    assert newest is not None
    other = training(seed=9)
    before = other.state()
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "extra.pt", "tensors.json"):
        copy = tmp_path / "copies" / name.replace(".", "-")
        shutil.copytree(newest.path, copy)
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[:-1])
        with pytest.raises(InvalidCheckpointError, match=name):
            made.load_checkpoint(copy, **other.live())
        (copy / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(InvalidCheckpointError, match=name):
            made.load_checkpoint(copy, **other.live())
        (copy / name).unlink()
        with pytest.raises(InvalidCheckpointError, match=name):
            made.load_checkpoint(copy, **other.live())
        assert same(other.state(), before)


def test_what_was_not_saved_is_missed_by_name(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    live = training()
    made.save_checkpoint(**live.live(), epoch=1, save_optimizer=False)
    with pytest.raises(StateMismatchError, match="optimizer=None"):
        made.load_checkpoint("latest", **live.live())
    assert made.load_checkpoint("latest", model=live.model)["epoch"] == 1


def test_the_result_has_the_seeds_keys_and_reads_states_when_asked(tmp_path: Path) -> None:
    live = three_epochs(tmp_path)
    made, _ = manager(tmp_path)
    result = made.load_checkpoint("latest")
    assert result["metrics"] == {"loss": 1.0 / 3}
    assert result["loaded_from"] == made.find_latest_checkpoint().path  # type: ignore[union-attr]
    assert same(dict(result["model_state_dict"]), dict(live.model.state_dict()))
    assert same(result["scheduler_state_dict"], live.scheduler.state_dict())
    assert torch.equal(
        result["optimizer_state_dict"]["state"][0]["exp_avg"],
        live.optimizer.state_dict()["state"][0]["exp_avg"],
    )


def test_history_notes_saves_and_resumes_but_no_looking(tmp_path: Path) -> None:
    live = three_epochs(tmp_path)
    made, _ = manager(tmp_path)
    assert made.get_training_history()["total_runs"] == 1
    made.load_checkpoint("latest", **live.live())
    history = made.get_training_history()
    assert history["total_runs"] == 1
    newest = made.find_latest_checkpoint()
    assert newest is not None
    assert history["last_resume"]["checkpoint"] == newest.name
    made.save_checkpoint(**live.live(), epoch=4)
    history = made.get_training_history()
    assert history["total_runs"] == 2
    assert history["runs"][1]["resumed_from"] == newest.name
    assert history["best"]["epoch"] == 2


def test_fallback_goes_to_the_newest_that_passes_and_says_what_it_skipped(tmp_path: Path) -> None:
    three_epochs(tmp_path)
    made, log = manager(tmp_path)
    third, second, first = made.list_checkpoints()
    data = bytearray((third / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (third / "model.safetensors").write_bytes(bytes(data))
    (second / "optimizer.pt").unlink()
    other = training(seed=9)
    with pytest.raises(InvalidCheckpointError):
        made.load_checkpoint("latest", **other.live())
    result = made.load_checkpoint("latest", **other.live(), fallback=True)
    assert result["epoch"] == 1
    assert f"skipped {third.name}" in said(log, "warning")
    assert f"skipped {second.name}" in said(log, "warning")
    (first / "scheduler.pt").unlink()
    with pytest.raises(InvalidCheckpointError, match="no checkpoint"):
        made.load_checkpoint("latest", **other.live(), fallback=True, missing_ok=True)


def test_fallback_passes_over_what_the_system_does_not_let_be_read_and_what_was_just_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_epochs(tmp_path)
    made, log = manager(tmp_path)
    third, second, first = made.list_checkpoints()
    shutil.rmtree(second)
    real = read.Opened.raw

    def rotten(opened: read.Opened, name: str) -> Any:
        if opened.path == third.path and name == "optimizer.pt":
            raise OSError(errno.EIO, "Input/output error", name)
        return real(opened, name)

    monkeypatch.setattr(read.Opened, "raw", rotten)
    # As it was when the root was listed: a cleanup came in between.
    monkeypatch.setattr(made._store, "list", lambda: Listing(entries=(third, second, first)))
    result = made.load_checkpoint("latest", **training(seed=9).live(), fallback=True)
    assert result["epoch"] == 1
    assert f"skipped {third.name}: optimizer.pt: Input/output error" in said(log, "warning")
    assert f"skipped {second.name}: " in said(log, "warning")
    monkeypatch.setattr(made._store, "list", lambda: Listing(entries=(third,)))
    with pytest.raises(OSError, match="Input/output error"):
        made.load_checkpoint("latest", **training(seed=9).live(), fallback=True)


def test_fallback_takes_a_path_that_was_never_there_for_a_mistake(tmp_path: Path) -> None:
    three_epochs(tmp_path)
    made, _ = manager(tmp_path)
    with pytest.raises(CheckpointNotFoundError):
        made.load_checkpoint("epoch-9999", model=training().model, fallback=True)


def test_fallback_of_an_empty_root_is_no_fresh_start_in_silence(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    with pytest.raises(CheckpointNotFoundError):
        made.load_checkpoint("latest", fallback=True)
    assert not made.load_checkpoint("latest", fallback=True, missing_ok=True).found


def test_a_checkpoint_that_is_pruned_when_all_of_it_is_loaded_is_loaded(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    saved = made.save_checkpoint(**training().live(), epoch=1, extra={"last": {"n": 1}})

    class Last:
        """The last that a load fills: another process's cleanup comes then."""

        def load_state_dict(self, state: dict[str, int]) -> None:
            shutil.rmtree(saved["path"])

    result = made.load_checkpoint(1, **training(seed=9).live(), extra={"last": Last()})
    assert not saved["path"].exists()
    assert result.restored == ("model", "optimizer", "scheduler", "last", "rng")
    last_resume = made.get_training_history()["last_resume"]
    assert last_resume is not None
    assert last_resume["checkpoint"] == saved["path"].name
