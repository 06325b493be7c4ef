"""A save in the background when its process ends: by its end, an exception, a signal, a fork."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from smartcash_format.disk.observe import validate
from smartcash_format.manager import background
from smartcash_format.spec.problems import Depth
from tests.manager.training import manager
from tests.ready import Ready

pytestmark = pytest.mark.torch

# A save that takes a while after the call has returned.
_SLOW = """
import os, signal, sys, time
import torch
from smartcash_format import CheckpointManager
from smartcash_format.torch_io import save as saving
real = saving.write_parts
def slow(*args, **kwargs):
    time.sleep(0.3)
    return real(*args, **kwargs)
manager = CheckpointManager(sys.argv[1])
model = torch.nn.Linear(50, 50)
manager.save_checkpoint(model, epoch=1)
saving.write_parts = slow
manager.save_checkpoint(model, epoch=2, blocking=False)
"""


Ended = Callable[[Path, str], int]


@pytest.fixture
def ended(ready: Ready) -> Ended:
    """How a process ended that ran a program after it began to save epoch 2."""
    return lambda root, program: ready(_SLOW + program, str(root))[0]


def epochs(root: Path) -> list[int]:
    made, _ = manager(root)
    found = made.list_checkpoints()
    assert not found.broken
    assert all(validate(entry.path, Depth.CONTENT).valid for entry in found)
    return sorted(entry.epoch for entry in found)


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("", 0),
        ("raise KeyError('mine')", 1),
        ("sys.exit(3)", 3),
        ("with manager:\n    raise KeyError('mine')", 1),
    ],
    ids=["end", "exception", "exit", "exception in a block"],
)
def test_an_end_of_the_process_waits_for_it(
    tmp_path: Path, ended: Ended, program: str, code: int
) -> None:
    assert ended(tmp_path, program) == code
    assert epochs(tmp_path) == [1, 2]


# When the main thread has ended, and when all other threads have, too.
LATE = {
    "thread": """
def late():
    threading.main_thread().join()
    save()
    manager.load_checkpoint("latest", model=model)
threading.Thread(target=late).start()
""",
    "atexit": """
import atexit
atexit.register(save)
""",
}


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("when", LATE)
def test_a_save_that_begins_after_the_end_of_the_main_thread_is_saved(
    tmp_path: Path, ended: Ended, when: str, blocking: bool
) -> None:
    program = f"""
import threading
def save():
    manager.save_checkpoint(model, epoch=3, blocking={blocking})
"""
    assert ended(tmp_path, program + LATE[when]) == 0
    assert epochs(tmp_path) == [1, 2, 3]


def test_a_large_file_is_saved_and_loaded_where_python_starts_no_thread_any_more(
    tmp_path: Path, ended: Ended
) -> None:
    program = """
import atexit
large = torch.nn.Linear(1_100, 1_100)
def late():
    manager.save_checkpoint(large, epoch=3)
    manager.load_checkpoint("latest", model=large)
atexit.register(late)
"""
    assert ended(tmp_path, program) == 0
    assert epochs(tmp_path) == [1, 2, 3]


def test_what_is_imported_at_the_end_of_the_process_knows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(call: object) -> None:
        raise RuntimeError("can't register atexit after shutdown")

    called: list[bool] = []
    monkeypatch.setattr(threading, "_register_atexit", refuse, raising=False)
    background._at_exit(lambda: called.append(True))
    assert called == [True]


GUARDED = """
guard = manager.guard(lambda: {}, grace_s=0.05)
guard.__enter__()
try:
    os.kill(os.getpid(), signal.SIGTERM)
    %s
except ZeroDivisionError as error:
    guard.__exit__(ZeroDivisionError, error, None)
"""


@pytest.mark.parametrize(
    "body", ["1 / 0", "time.sleep(60)", "guard.step()"], ids=["exception", "no step", "bad state"]
)
def test_a_guard_that_saves_nothing_lets_the_save_in_flight_end(
    tmp_path: Path, ended: Ended, body: str
) -> None:
    assert ended(tmp_path, GUARDED % body) == -signal.SIGTERM
    assert epochs(tmp_path) == [1, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_killed_leaves_what_was_saved_before(
    tmp_path: Path, ended: Ended, number: int
) -> None:
    assert ended(tmp_path, f"os.kill(os.getpid(), {int(number)})\ntime.sleep(60)") == -number
    assert epochs(tmp_path) == [1]
    made, _ = manager(tmp_path)
    made.save_checkpoint({}, epoch=3)
    assert epochs(tmp_path) == [1, 3]
    assert not list(tmp_path.glob(".staging-*"))


# Ctrl-C while somebody waits, as when a notebook's cell is stopped; nothing is written before.
INTERRUPTED = """
import threading
signal.signal(signal.SIGINT, signal.default_int_handler)
free = threading.Event()
def held(*args, **kwargs):
    free.wait()
    return real(*args, **kwargs)
manager.wait()
saving.write_parts = held
manager.save_checkpoint(model, epoch=3, blocking=False)
try:
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    manager.wait()
except KeyboardInterrupt:
    threading.Timer(0.5, free.set).start()
"""


SAVED_AGAIN = """
    manager.save_checkpoint(model, epoch=4, blocking=False)
    assert manager.find_checkpoint_by_epoch(3) is not None
"""


@pytest.mark.parametrize(
    ("then", "saved"),
    [("", [1, 2, 3]), ("    assert manager.wait()", [1, 2, 3]), (SAVED_AGAIN, [1, 2, 3, 4])],
    ids=["end of the process", "wait", "save"],
)
def test_who_waits_after_an_interrupted_wait_waits(
    tmp_path: Path, ended: Ended, then: str, saved: list[int]
) -> None:
    assert ended(tmp_path, INTERRUPTED + then) == 0
    assert epochs(tmp_path) == saved


FORK = """
import warnings
warnings.simplefilter("ignore")
%s
child = os.fork()
if child == 0:
    code = 7
    try:
        assert manager.wait() is None
        manager.close()
        manager.save_checkpoint(model, epoch=3, blocking=False)
        assert manager.wait()["path"].is_dir()
        code = 0
    finally:
        os._exit(code)
_, status = os.waitpid(child, 0)
assert status == 0, status
"""


@pytest.mark.skipif(not hasattr(sys, "fork") and sys.platform == "win32", reason="no fork")
def test_a_forked_child_has_no_part_in_the_save_of_its_parent(tmp_path: Path, ended: Ended) -> None:
    assert ended(tmp_path, FORK % "" + "assert manager.wait()['path'].is_dir()") == 0
    assert epochs(tmp_path) == [1, 2, 3]


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_the_end_of_a_worker_process_waits_for_what_it_saves(tmp_path: Path, ended: Ended) -> None:
    program = """
import multiprocessing
def work():
    manager.save_checkpoint(model, epoch=3, blocking=False)
worker = multiprocessing.get_context("fork").Process(target=work)
worker.start()
worker.join()
sys.exit(worker.exitcode)
"""
    assert ended(tmp_path, program) == 0
    assert epochs(tmp_path) == [1, 2, 3]


def test_a_forked_child_does_not_raise_the_error_of_its_parent(
    tmp_path: Path, ended: Ended
) -> None:
    failing = """
manager.wait()
def full(*args, **kwargs):
    raise OSError(28, "No space left on device")
saving.write_parts = full
manager.save_checkpoint(model, epoch=9, blocking=False)
manager._background.finish()
saving.write_parts = real
"""
    late = """
try:
    manager.wait()
except OSError as error:
    assert error.errno == 28
else:
    sys.exit(5)
"""
    assert ended(tmp_path, FORK % failing + late) == 0
    assert epochs(tmp_path) == [1, 2, 3]
