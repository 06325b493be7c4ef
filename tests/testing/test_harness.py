"""The harness finds what it is there to find: writers that are known to be wrong are caught."""

from __future__ import annotations

import pytest

from smartcash_format.testing import matrix
from tests.processes import run_python

# What each wrong writer does, and the sentence that has to come out.
WRITERS = {
    "writes in place": """
def run(root, saved):
    with tempfile.TemporaryDirectory() as aside:
        made = write_sample(Path(aside), epoch=4)
        target = root / made.name
        os.mkdir(target)
        for name in sorted(os.listdir(made)):
            descriptor = os.open(target / name, os.O_CREAT | os.O_WRONLY)
            os.write(descriptor, (made / name).read_bytes())
            os.fsync(descriptor)
            os.close(descriptor)
        saved(target)
""",
    "removes before it saves": """
def run(root, saved):
    remove(visible(root)[2])
    saved(write_sample(root, epoch=4))
""",
    "does not sync": """
def run(root, saved):
    publish.sync_directory = lambda path: None
    saved(write_sample(root, epoch=4))
""",
    "opens files behind the back of os": """
def run(root, saved):
    (root / "note").write_text("x")
""",
    "raises something else": """
def run(root, saved):
    try:
        os.mkdir(root / "epoch-x")
    except OSError:
        raise RuntimeError
    os.rmdir(root / "epoch-x")
""",
    "leaves its stage": """
def run(root, saved):
    os.mkdir(root / f".staging-{Owner('00000000', 1, 1).name()}")
""",
}

PROGRAM = """
import os, sys, tempfile
from pathlib import Path
from smartcash_format.disk import publish
from smartcash_format.disk.owner import Owner
from smartcash_format.disk.publish import remove
from smartcash_format.testing.crash import visible
from smartcash_format.testing.matrix import *
from smartcash_format.testing.matrix import _operation
from smartcash_format.testing.sample import write_sample
{writer}
operation = [_operation("wrong", run)]
place = fast_directory()
found = {trial}
print(*worst(found), sep="\\n")
"""


KILLED = "list(run_matrix(place, operation, mounts=MOUNTS[:1], faults=[KILL], every={every}))"
FAILED = "list(run_matrix(place, operation, mounts=MOUNTS[:1], faults=[ONCE[2]]))"
UNPOWERED = "list(run_power_loss(place, operation, draws=0, every=2))"


def broken_promises(writer: str, trial: str) -> str:
    return run_python(PROGRAM.format(writer=WRITERS[writer], trial=trial))


@pytest.mark.parametrize(
    ("writer", "trial", "sentence"),
    [
        ("writes in place", KILLED.format(every=3), "torn: epoch-0004"),
        ("removes before it saves", KILLED.format(every=9), "lost: epoch-0003"),
        ("does not sync", UNPOWERED, "power loss at None: lost: epoch-0004"),
        ("raises something else", FAILED, "EIO at mkdir epoch-x #1: raised "),
        ("leaves its stage", KILLED.format(every=1), "left over: .staging-00000000-1-1-"),
    ],
)
def test_a_writer_that_is_wrong_is_caught(writer: str, trial: str, sentence: str) -> None:
    assert sentence in broken_promises(writer, trial)


def test_a_writer_that_the_layer_does_not_see_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"written behind the back of os: \['note'\]"):
        broken_promises("opens files behind the back of os", KILLED.format(every=1))


def test_a_table_counts_every_point_once() -> None:
    assert matrix.tables([]).endswith("\n\n0 points tried, 0 broken promises.")


def test_an_operation_that_hangs_is_a_broken_promise() -> None:
    program = """
import time
from smartcash_format.testing import crash
crash.HANGS_S = 1
print(crash.in_child(lambda tell: time.sleep(600)))
"""
    assert run_python(program).startswith("(-14, ")
