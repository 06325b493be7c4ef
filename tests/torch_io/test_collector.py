from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from smartcash_format import CheckpointManager
from smartcash_format.disk import collector
from smartcash_format.disk.collector import collector_paused
from smartcash_format.torch_io import save as saving
from tests.torch_io.saving import facts


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def collections_during(count: int) -> int:
    """How often the collector runs by itself while so many containers are made."""
    begun = 0

    def note(phase: str, _: object) -> None:
        nonlocal begun
        begun += phase == "start"

    gc.callbacks.append(note)
    try:
        kept = [[] for _ in range(count)]  # type: ignore[var-annotated]
    finally:
        gc.callbacks.remove(note)
    return begun if kept else 0


def test_nothing_is_collected_inside_and_all_is_as_before_behind() -> None:
    with collector_paused():
        assert collections_during(50_000) == 0
    assert gc.isenabled()
    assert collections_during(50_000) > 0


def test_a_user_who_turned_the_collector_off_finds_it_off() -> None:
    gc.disable()
    with collector_paused():
        pass
    assert not gc.isenabled()


def test_an_error_inside_starts_it_again() -> None:
    with pytest.raises(ZeroDivisionError), collector_paused():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_blocks_of_several_threads_may_overlap() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with collector_paused():
            inside.set()
            go_on.wait()

    thread = threading.Thread(target=other)
    with collector_paused():
        thread.start()
        inside.wait()
    assert not gc.isenabled()
    go_on.set()
    thread.join()
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("locked", [False, True])
def test_a_child_forked_inside_collects(locked: bool) -> None:
    with collector_paused():
        if locked:
            collector._lock.acquire()
        child = os.fork()
        if not child:
            with collector_paused():
                inside = gc.isenabled()
            os._exit(10 * inside + gc.isenabled())
        if locked:
            collector._lock.release()
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert gc.isenabled()


def test_a_save_that_is_waited_for_is_one_quiet_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enabled: list[bool] = []
    real = saving.publish

    def noted(*arguments: Any, **how: Any) -> Any:
        enabled.append(gc.isenabled())
        return real(*arguments, **how)

    monkeypatch.setattr(saving, "publish", noted)
    model = torch.nn.Linear(2, 2)
    with CheckpointManager(tmp_path) as manager:
        manager.save_checkpoint(model, epoch=0)
        manager.save_checkpoint(model, epoch=1, blocking=False)
        manager.wait()
    saving.save(tmp_path / "alone", facts(), model=model)
    # Beside a training that goes on the collector goes on.
    assert enabled == [False, True, False]
    assert gc.isenabled()
