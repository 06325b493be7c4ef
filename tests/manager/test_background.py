"""Saves in the background: a copy is a copy, order holds, and no result or error is lost."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk.observe import validate
from smartcash_format.disk.write import write_parts
from smartcash_format.errors import CheckpointWriteError, UnsavableStateError
from smartcash_format.spec.problems import Depth
from smartcash_format.store.retention import KeepLast
from smartcash_format.torch_io import save as saving
from tests.manager.training import manager, said, same, training
from tests.processes import run_python

pytestmark = pytest.mark.torch


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Nothing is written before this is set."""
    free = threading.Event()
    real = write_parts

    def wait_first(*args: Any, **kwargs: Any) -> Any:
        assert free.wait(30)
        return real(*args, **kwargs)

    monkeypatch.setattr(saving, "write_parts", wait_first)
    return free


def test_what_is_saved_is_what_was_there_when_the_call_returned(
    tmp_path: Path, held: threading.Event
) -> None:
    made, _ = manager(tmp_path)
    live = training()
    before = live.state()
    result = made.save_checkpoint(**live.live(), epoch=1, blocking=False)
    for _ in range(3):
        live.step()
    for parameter in live.model.parameters():
        parameter.data.fill_(7.0)
    assert not result["path"].exists()
    held.set()
    done = made.wait()
    assert done is not None
    assert done["path"] == result["path"]
    assert validate(result["path"], Depth.CONTENT).valid
    other = training(seed=9)
    made.load_checkpoint("latest", **other.live())
    after = other.state()
    assert same(after["model"], before["model"])
    assert same(after["optimizer"], before["optimizer"])
    assert same(after["scheduler"], before["scheduler"])


def test_statistics_of_a_copy_are_those_of_a_plain_save(tmp_path: Path) -> None:
    live = training()
    for name, blocking in (("plain", True), ("copied", False)):
        made, _ = manager(tmp_path / name)
        made.save_checkpoint(**live.live(), epoch=1, rng=False, blocking=blocking)
        made.close()
    plain, copied = (next((tmp_path / name).glob("epoch-*")) for name in ("plain", "copied"))
    for file in ("tensors.json", "model.safetensors", "optimizer.pt"):
        assert (plain / file).read_bytes() == (copied / file).read_bytes()


def test_the_next_save_waits_and_follows_in_lineage_and_time(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    live = training()
    for epoch in range(1, 6):
        made.save_checkpoint(**live.live(), epoch=epoch, blocking=False)
        live.step()
    made.close()
    entries = list(reversed(made.list_checkpoints()))
    assert [entry.epoch for entry in entries] == [1, 2, 3, 4, 5]
    for before, after in itertools.pairwise(entries):
        assert after.parent_id == before.checkpoint_id
        assert after.saved_at > before.saved_at
    assert made.get_training_history()["runs"][0]["saves"] == 5


def test_an_error_in_the_background_is_raised_by_the_next_call_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = manager(tmp_path)
    live = training()
    made.save_checkpoint(**live.live(), epoch=1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(saving, "write_parts", full)
        made.save_checkpoint(**live.live(), epoch=2, blocking=False)
        with pytest.raises(CheckpointWriteError) as caught:
            made.save_checkpoint(**live.live(), epoch=3, blocking=False)
        assert caught.value.errno == 28
        made.save_checkpoint(**live.live(), epoch=3, blocking=False)
        with pytest.raises(CheckpointWriteError):
            made.close()
        made.close()
    assert [entry.epoch for entry in made.list_checkpoints()] == [1]
    assert not list(tmp_path.glob(".staging-*"))
    made.save_checkpoint(**live.live(), epoch=4, blocking=False)
    assert made.wait() is not None


def test_what_cannot_be_saved_is_refused_by_the_call_itself(tmp_path: Path) -> None:
    made, _ = manager(tmp_path / "root")
    with pytest.raises(UnsavableStateError):
        made.save_checkpoint(None, epoch=1, blocking=False)
    assert made.wait() is None


def test_a_block_closes_and_its_own_error_is_the_one_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, log = manager(tmp_path)
    live = training()
    with made as inside:
        inside.save_checkpoint(**live.live(), epoch=1, blocking=False)
    assert len(made.list_checkpoints()) == 1

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "write_parts", full)

    def fail() -> None:
        with made:
            made.save_checkpoint(**live.live(), epoch=2, blocking=False)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert "background failed" in said(log, "error")


def test_the_end_of_the_process_waits_for_a_save(tmp_path: Path) -> None:
    run_python(
        "import torch\n"
        "from smartcash_format import CheckpointManager\n"
        f"manager = CheckpointManager({str(tmp_path)!r})\n"
        "manager.save_checkpoint(torch.nn.Linear(500, 500), epoch=1, blocking=False)\n"
    )
    made, _ = manager(tmp_path)
    newest = made.find_latest_checkpoint()
    assert newest is not None
    assert validate(newest.path, Depth.CONTENT).valid


def test_keep_is_applied_after_each_save_and_never_to_what_was_just_saved(tmp_path: Path) -> None:
    made, _ = manager(tmp_path, keep=KeepLast(2))
    live = training()
    removed = []
    for epoch in range(1, 6):
        removed += made.save_checkpoint(**live.live(), epoch=epoch)["removed"]
    assert [entry.epoch for entry in made.list_checkpoints()] == [5, 4]
    assert [path.name[:10] for path in removed] == ["epoch-0001", "epoch-0002", "epoch-0003"]
    nothing, _ = manager(tmp_path, keep=KeepLast(0))
    nothing.save_checkpoint(**live.live(), epoch=6, blocking=False)
    nothing.close()
    assert [entry.epoch for entry in nothing.list_checkpoints()] == [6]
