"""What a first user mistakes for something else: every such call says so, and changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smartcash_format import convert, receive, transfer
from smartcash_format.errors import CheckpointNotFoundError, CheckpointWriteError
from smartcash_format.testing.sample import write_sample
from tests.manager.training import manager, said, training

pytestmark = pytest.mark.torch


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "weights", epoch=3)


def test_nothing_is_saved_into_a_checkpoint(checkpoint: Path) -> None:
    before = sorted(os.listdir(checkpoint))
    made, _ = manager(checkpoint)
    with pytest.raises(CheckpointWriteError, match=r"is a checkpoint.*its root is .*weights"):
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
