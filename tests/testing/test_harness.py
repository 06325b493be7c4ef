"""The harness finds what it is there to find: writers that are known to be wrong are caught."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import pytest

from smartcash_format.testing import crash, matrix, power
from smartcash_format.testing.points import Event
from tests.processes import run_python

# What each wrong writer does, and the sentence that has to come out.
WRITERS = {
    "writes in place": """
def run(root, tell):
    with tempfile.TemporaryDirectory() as aside:
        made = write_sample(Path(aside), epoch=4)
        target = root / made.name
        os.mkdir(target)
        for name in sorted(os.listdir(made)):
            descriptor = os.open(target / name, os.O_CREAT | os.O_WRONLY)
            os.write(descriptor, (made / name).read_bytes())
            os.fsync(descriptor)
            os.close(descriptor)
        tell("saved", target)
""",
    "removes before it saves": """
def run(root, tell):
    remove(visible(root)[2])
    tell("saved", write_sample(root, epoch=4))
""",
    "does not sync": """
def run(root, tell):
    publish.sync_directory = lambda path: None
    tell("saved", write_sample(root, epoch=4))
""",
    "opens files behind the back of os": """
def run(root, tell):
    (root / "note").write_text("x")
""",
    "raises something else": """
def run(root, tell):
    try:
        os.mkdir(root / "epoch-x")
    except OSError:
        raise RuntimeError
    os.rmdir(root / "epoch-x")
""",
    "removes what it may before it saves": """
def run(root, tell):
    remove(visible(root)[0])
    tell("saved", write_sample(root, epoch=4))
""",
    "writes after open(descriptor)": """
def run(root, tell):
    with open(os.open(root / "note", os.O_CREAT | os.O_WRONLY), "wb") as file:
        file.write(b"x")
""",
    "says that it protects": """
def run(root, tell):
    tell("pinned", "somebody")
""",
    "says that it is in the history": """
def run(root, tell):
    tell("noted", "resume epoch-0003")
""",
    "says that an old one is the newest": """
def run(root, tell):
    tell("saved", visible(root)[0])
""",
    "strips by removing": """
def run(root, tell):
    remove(visible(root)[1])
""",
    "leaves its stage": """
def run(root, tell):
    os.mkdir(root / f".staging-{Owner('00000000', 1, 1).name()}")
""",
}

PROGRAM = """
import os, sys, tempfile
from pathlib import Path
from smartcash_format.disk import publish
from smartcash_format.disk.owner import Owner
from smartcash_format.disk.publish import remove
from smartcash_format.testing.promise import visible
from smartcash_format.testing.matrix import *
from smartcash_format.testing.matrix import _operation
from smartcash_format.testing.sample import write_sample
{writer}
operation = [_operation("wrong", run, removes=(0,), strips=(1,), saves=1)]
place = fast_directory()
found = {trial}
print(*worst(found), sep="\\n")
"""


KILLED = "list(run_matrix(place, operation, mounts=MOUNTS[:1], faults=[KILL], every={every}))"
FAILED = "list(run_matrix(place, operation, mounts=MOUNTS[:1], faults=[ONCE[2]]))"
UNTOUCHED = "list(run_matrix(place, operation, mounts=MOUNTS[:1], faults=[]))"
UNPOWERED = "list(run_power_loss(place, operation, draws=0, every=2))"


def broken_promises(writer: str, trial: str) -> str:
    return run_python(PROGRAM.format(writer=WRITERS[writer], trial=trial))


@pytest.mark.parametrize(
    ("writer", "trial", "sentence"),
    [
        ("removes what it may before it saves", KILLED.format(every=9), "removed before the save"),
        ("says that it protects", UNTOUCHED, "not protected: somebody"),
        ("says that it is in the history", UNTOUCHED, "not in the history: resume epoch-0003"),
        ("says that an old one is the newest", UNTOUCHED, "the newest is epoch-0003-"),
        ("strips by removing", UNTOUCHED, "lost: epoch-0002-"),
        ("writes in place", KILLED.format(every=3), "torn: epoch-0004"),
        ("removes before it saves", KILLED.format(every=9), "lost: epoch-0003"),
        ("does not sync", UNPOWERED, "power loss at None: lost: epoch-0004"),
        ("raises something else", FAILED, "EIO at mkdir epoch-x #1: raised "),
        ("leaves its stage", KILLED.format(every=1), "left over: .staging-00000000-1-1-"),
    ],
)
def test_a_writer_that_is_wrong_is_caught(writer: str, trial: str, sentence: str) -> None:
    assert sentence in broken_promises(writer, trial)


@pytest.mark.parametrize(
    "writer", ["opens files behind the back of os", "writes after open(descriptor)"]
)
def test_a_writer_that_the_layer_does_not_see_is_refused(writer: str) -> None:
    with pytest.raises(AssertionError, match=r"written behind the back of os: \['note'\]"):
        broken_promises(writer, KILLED.format(every=1))


def test_a_table_counts_every_point_once() -> None:
    assert matrix.tables([]).endswith("\n\n0 points tried, 0 broken promises.")


def test_every_subset_of_changed_names_that_were_not_synced_is_a_state(tmp_path: Path) -> None:
    events = [Event(op="create", path=name) for name in "abc"]
    found = {frozenset(tree) for _, tree in power.states(tmp_path, events, draws=0)}
    assert found == {frozenset(["", *names]) for n in range(4) for names in combinations("abc", n)}


def test_of_more_changes_than_eight_all_and_none_and_drawn_ones_are_states(tmp_path: Path) -> None:
    events = [Event(op="create", path=name) for name in "abcdefghi"]
    last = [set(tree) for done, tree in power.states(tmp_path, events, draws=3) if done == 9]
    assert last[0] == last[1] == {""}
    assert last[2] == last[3] == {"", *"abcdefghi"}
    assert len(last) == 7


def test_a_root_is_copied_with_its_links(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a").write_text("x")
    os.link(tmp_path / "one" / "a", tmp_path / "one" / "b")
    crash.copy_of(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two" / "a").samefile(tmp_path / "two" / "b")
    assert not (tmp_path / "two" / "a").samefile(tmp_path / "one" / "a")


def test_an_operation_that_hangs_is_a_broken_promise() -> None:
    program = """
import time
from smartcash_format.testing import crash
crash.HANGS_S = 1
print(crash.in_child(lambda tell: time.sleep(600)))
"""
    assert run_python(program).startswith("(-14, ")
