"""Saves in the background: a copy is a copy, order holds, and no result is lost."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import torch

from smartcash_format import load_tensors
from smartcash_format.disk.observe import validate
from smartcash_format.disk.write import write_parts
from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec.problems import Depth
from smartcash_format.store.retention import KeepLast
from smartcash_format.torch_io import save as saving
from tests.manager.training import manager, same, training

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


def test_what_cannot_be_saved_is_refused_by_the_call_itself(tmp_path: Path) -> None:
    made, _ = manager(tmp_path / "root")
    with pytest.raises(UnsavableStateError):
        made.save_checkpoint(None, epoch=1, blocking=False)
    assert made.wait() is None


def test_a_block_closes(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    with made as inside:
        inside.save_checkpoint(**training().live(), epoch=1, blocking=False)
    assert len(made.list_checkpoints()) == 1


def test_what_looks_does_not_wait_and_what_acts_does(tmp_path: Path, held: threading.Event) -> None:
    made, _ = manager(tmp_path)
    live = training()
    result = made.save_checkpoint(**live.live(), epoch=1, blocking=False)
    assert made.find_latest_checkpoint() is None
    assert not made.list_checkpoints()
    assert not made.validate_checkpoint(result["path"])[0]
    (tmp_path / "drive").mkdir()
    calls: list[Callable[[], object]] = [
        lambda: made.load_checkpoint("latest", model=training(seed=9).model),
        made.plan_cleanup,
        made.cleanup_checkpoints,
        lambda: made.copy_to_drive(tmp_path / "drive"),
        lambda: made.protect(result["path"], "the paper"),
        made.wait,
        made.close,
    ]
    with ThreadPoolExecutor(len(calls)) as pool:
        waiting = [pool.submit(call) for call in calls]
        assert not wait(waiting, timeout=0.5).done
        held.set()
        for each in waiting:
            each.result(30)
    assert [path.name for path in (tmp_path / "drive").glob("epoch-*")] == [result["path"].name]


def test_the_result_completes_itself(tmp_path: Path, held: threading.Event) -> None:
    made, _ = manager(tmp_path, keep=KeepLast(1), incremental=True)
    live = training()
    held.set()
    first = made.save_checkpoint(**live.live(), epoch=1)
    held.clear()
    result = made.save_checkpoint(**live.live(), epoch=2, blocking=False)
    assert (result["linked"], result["removed"]) == ((), ())
    bound = result["bytes"]
    held.set()
    live.step()
    made.save_checkpoint(**live.live(), epoch=3, blocking=False)  # has waited for it
    assert result["linked"] == ("model.safetensors",)
    assert result["removed"] == (first["path"],)
    assert result["bytes"] <= bound
    last = made.wait()
    assert last is not None
    assert last["path"].name.startswith("epoch-0003")
    assert made.wait() is None


def test_memory_is_kept_from_save_to_save_and_given_back_by_close(tmp_path: Path) -> None:
    made, _ = manager(tmp_path)
    live = training()
    made.save_checkpoint(**live.live(), epoch=1, blocking=False)
    made.wait()
    buffers = made._buffers
    assert buffers is not None
    addresses = {name: memory.data_ptr() for name, memory in buffers._memory.items()}
    assert set(addresses) >= {"model.safetensors", "optimizer.pt"}
    made.save_checkpoint(**live.live(), epoch=2)
    made.save_checkpoint(**live.live(), epoch=3, blocking=False)
    assert made._buffers is buffers
    assert addresses == {name: memory.data_ptr() for name, memory in buffers._memory.items()}
    gone = weakref.ref(buffers)
    del buffers
    made.close()
    assert gone() is None
    made.save_checkpoint(**live.live(), epoch=4, blocking=False)
    made.close()
    assert len(made.list_checkpoints()) == 4


def test_a_model_that_moves_or_goes_is_saved_as_it_was(
    tmp_path: Path, held: threading.Event
) -> None:
    made, _ = manager(tmp_path)
    live = training()
    before = live.state()["model"]
    made.save_checkpoint(live.model, live.optimizer, epoch=1, rng=False, blocking=False)
    live.model.to(torch.float64).to("meta")
    gone = weakref.ref(live.model)
    del live
    gc.collect()
    assert gone() is None
    held.set()
    made.close()
    other = training(seed=9)
    made.load_checkpoint("latest", model=other.model)
    assert same(other.state()["model"], before)


def test_a_load_during_a_save_is_what_the_next_save_follows(
    tmp_path: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = manager(tmp_path)
    live = training()
    held.set()
    first = made.save_checkpoint(**live.live(), epoch=1)
    made.save_checkpoint(**live.live(), epoch=2)
    held.clear()
    # A load that began before the save, and ends while it is in flight.
    monkeypatch.setattr(made._background, "raise_error", lambda note: None)
    made.save_checkpoint(**live.live(), epoch=3, blocking=False)
    made.load_checkpoint(first["path"], **training(seed=9).live())
    held.set()
    made.save_checkpoint(**live.live(), epoch=4)
    newest = made.find_latest_checkpoint()
    assert newest is not None
    assert newest.parent_id == first["checkpoint_id"]


def test_threads_that_save_and_wait_at_once_have_one_save_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = manager(tmp_path)
    running: list[int] = []
    most: list[int] = []
    real = write_parts

    def counted(*args: Any, **kwargs: Any) -> Any:
        running.append(1)
        most.append(len(running))
        time.sleep(0.002)
        try:
            return real(*args, **kwargs)
        finally:
            running.pop()

    monkeypatch.setattr(saving, "write_parts", counted)
    results: list[Mapping[str, Any]] = []

    def save(thread: int) -> None:
        model = torch.nn.Linear(2, 2)
        for turn in range(8):
            epoch = 10 * thread + turn
            results.append(made.save_checkpoint(model, epoch=epoch, rng=False, blocking=False))
            made.wait()

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(save, thread) for thread in range(4)]:
            each.result(60)
    made.close()
    assert max(most) == 1
    assert len(made.list_checkpoints()) == 32
    assert all(result["path"].is_dir() for result in results)


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


def test_a_save_in_the_background_out_of_a_state_dict_has_memory_of_its_own(
    tmp_path: Path,
) -> None:
    ours, _ = manager(tmp_path)
    inner = torch.nn.Linear(300, 300)
    begun: list[Any] = []

    class Saving:
        def state_dict(self) -> dict[str, Any]:
            if not begun:
                begun.append(ours.save_checkpoint(inner, epoch=1, blocking=False))
            return {"a": 1}

    ours.save_checkpoint(torch.nn.Linear(300, 300), epoch=0, blocking=False)
    ours.save_checkpoint(
        torch.nn.Linear(300, 300), epoch=2, extra={"saving": Saving()}, blocking=False
    )
    ours.close()
    listing = ours.list_checkpoints()
    assert sorted(entry.epoch for entry in listing) == [0, 1, 2]
    assert all(validate(entry.path, Depth.CONTENT).valid for entry in listing)
    assert torch.equal(load_tensors(begun[0]["path"])["weight"], inner.weight)
