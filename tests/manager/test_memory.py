"""What a save and a load hold in memory beside the live state: the least that each needs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.ready import Ready

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is no file's"),
]

# 135 MB of state, two thirds of them moments, and one tensor that has to be copied to be written.
_STATE = """
import ctypes, sys, threading, torch
from smartcash_format import CheckpointManager

MB = 1 << 20

def training(width=1500, layers=5, steps=1):
    model = torch.nn.Sequential(*[torch.nn.Linear(width, width) for _ in range(layers)])
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    for _ in range(steps):
        model(torch.ones(1, width)).sum().backward()
        optimizer.step()
    optimizer.zero_grad()
    return {"model": model, "optimizer": optimizer}

def size_of(live):
    moments = [t for s in live["optimizer"].state.values() for t in s.values()]
    return sum(t.nbytes for t in (*live["model"].state_dict().values(), *moments))

def held():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))

def most_beside(call):
    ctypes.CDLL(None).malloc_trim(0)
    before, found, done = held(), [], threading.Event()
    def sample():
        while not done.wait(0.001):
            found.append(held())
    watcher = threading.Thread(target=sample)
    watcher.start()
    call()
    done.set()
    watcher.join()
    return max(found) - before

root = sys.argv[1]
# What is loaded or laid out once is no copy of the state.
with CheckpointManager(root + "/small") as small:
    for blocking in (True, False):
        small.save_checkpoint(**training(4), epoch=1, blocking=blocking)
    small.load_checkpoint("latest", **training(4, steps=0))
manager = CheckpointManager(root + "/large")
live = training()
size = size_of(live)
assert size > 120 * MB
"""


def test_a_blocking_save_holds_no_copy_but_of_what_cannot_be_written_as_it_is(
    tmp_path: Path, ready: Ready
) -> None:
    program = """
turned = live["model"][0]
turned.weight.data = turned.weight.data.t()
taken = most_beside(lambda: manager.save_checkpoint(**live, epoch=1))
assert taken <= 32 * MB + turned.weight.nbytes, taken / MB
"""
    assert ready(_STATE + program, str(tmp_path)) == (0, "")


def test_a_background_save_holds_one_copy(tmp_path: Path, ready: Ready) -> None:
    program = """
def saved():
    manager.save_checkpoint(**live, epoch=1, blocking=False)
    manager.wait()
first, second = most_beside(saved), most_beside(saved)
assert 0.9 * size < first <= 1.05 * size, first / size
assert second <= 32 * MB, second / MB
"""
    assert ready(_STATE + program, str(tmp_path)) == (0, "")


def test_a_load_holds_the_state_that_it_makes(tmp_path: Path, ready: Ready) -> None:
    program = """
manager.save_checkpoint(**live, epoch=1)
for verify in (True, False):
    other = training(steps=0)
    before = size_of(other)
    taken = most_beside(lambda: manager.load_checkpoint("latest", **other, verify=verify))
    made = size_of(other) - before
    assert made > 80 * MB
    assert taken <= 1.05 * made, (verify, taken / made)
"""
    assert ready(_STATE + program, str(tmp_path)) == (0, "")
