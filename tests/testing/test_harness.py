"""The harness finds what it is there to find: writers that are known to be wrong are caught."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import pytest

from smartcash_format.testing import crash, forgetful_disk, matrix, power
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


@pytest.mark.no_cover
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


def looked_at(root: Path, events: list[Event], draws: int = 0) -> list[power.State]:
    """The states that differ for a reader, each with all that it stands for."""
    return crash._different(power.states(root, events, draws=draws), [])


def test_every_subset_of_changed_names_that_were_not_synced_is_a_state(tmp_path: Path) -> None:
    events = [Event(op="create", path=name) for name in "abc"]
    found = looked_at(tmp_path, events)
    assert {frozenset(state.tree) for state in found} == {
        frozenset(["", *names]) for n in range(4) for names in combinations("abc", n)
    }
    assert power.combinations(tmp_path, events) == 1 + 2 + 4 + 8
    assert sum(state.stands_for for state in found) == 15


def test_every_outcome_of_every_write_that_was_not_synced_is_a_state(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    events = [
        Event(op="write", path="a", offset=3, data=b"1234"),
        Event(op="write", path="a", offset=7, data=b"x"),
    ]
    ways = [b"", b"12", b"\0\0\0\0", b"1234"]
    found = looked_at(tmp_path, events)
    # Half of one byte is none, and a size that came before the bytes is zeros.
    ends = {b"old" + way for way in ways}
    ends |= {b"old" + way.ljust(4, b"\0") + last for way in ways for last in (b"", b"\0", b"x")}
    assert {state.tree["a"] for state in found} == ends
    assert sum(state.stands_for for state in found) == 1 + 4 + 4 * 4
    assert sum(state.stands_for for state in found) == power.combinations(tmp_path, events)


def test_a_truncation_that_was_not_synced_arrived_or_did_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    found = looked_at(tmp_path, [Event(op="truncate", path="a", offset=1)])
    assert {state.tree["a"] for state in found} == {b"old", b"o"}


STAGE = ".staging-1-2-3-4"
STAGED = [
    Event(op="mkdir", path=STAGE),
    Event(op="create", path=f"{STAGE}/a"),
    Event(op="write", path=f"{STAGE}/a", data=b"1234"),
    Event(op="fsync", path=f"{STAGE}/a"),
    Event(op="create", path=f"{STAGE}/b"),
    Event(op="write", path=f"{STAGE}/b", data=b"1234"),
]


def test_what_lies_in_a_stage_is_one_state_for_its_readers(tmp_path: Path) -> None:
    found = looked_at(tmp_path, STAGED)
    names = {frozenset(state.tree) for state in found}
    a, b = f"{STAGE}/a", f"{STAGE}/b"
    assert names == {*map(frozenset, [[""], ["", STAGE], ["", STAGE, a], ["", STAGE, a, b]])}
    # 1 and 2, of one name and its data 4, 16 and 4, of two 8 and 32.
    assert power.combinations(tmp_path, STAGED) == 1 + 2 + 4 + 16 + 4 + 8 + 32
    assert sum(state.stands_for for state in found) == 67
    assert len(looked_at(tmp_path, STAGED, draws=50)) > len(found)


def test_a_stage_that_is_renamed_before_it_is_durable_is_every_state(tmp_path: Path) -> None:
    renamed = [*STAGED, Event(op="rename", path=STAGE, target="one")]
    found = [state for state in looked_at(tmp_path, renamed) if "one" in state.tree]
    # The name without what is in it; of `a` all, and of `b` four kinds of data.
    assert {frozenset(state.tree) for state in found} == {
        frozenset(["", "one", *(f"one/{name}" for name in names)])
        for n in range(3)
        for names in combinations("ab", n)
    }
    assert {state.tree["one/b"] for state in found if "one/b" in state.tree} == {
        b"", b"12", b"\0\0\0\0", b"1234",
    }  # fmt: skip
    done = power.combinations(tmp_path, renamed)
    assert sum(state.stands_for for state in looked_at(tmp_path, renamed)) == done


def test_what_is_removed_from_a_trash_that_may_still_be_a_checkpoint_is_every_state(
    tmp_path: Path,
) -> None:
    (tmp_path / "one").mkdir()
    for name in "ab":
        (tmp_path / "one" / name).write_bytes(b"x")
    trash = ".trash-1-2-3-4"
    events = [
        Event(op="rename", path="one", target=trash),
        *(Event(op="unlink", path=f"{trash}/{name}") for name in "ab"),
    ]
    found = {frozenset(state.tree) for state in looked_at(tmp_path, events)}
    assert frozenset(["", "one", "one/b"]) in found
    synced = [events[0], Event(op="fsync", path="."), *events[1:]]
    found = {frozenset(state.tree) for state in looked_at(tmp_path, synced)}
    assert frozenset(["", "one", "one/b"]) not in found


def test_of_more_states_than_are_gone_through_some_are_looked_at_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetful_disk, "STATES", 256)
    events = [Event(op="create", path=name) for name in "abcdefghi"]
    every = power.states(tmp_path, events, draws=3)
    last = [set(state.tree) for state in every if state.calls == 9]
    assert last[:2] == [{""}, {"", *"abcdefghi"}]
    assert len(last) == 5
    left_out = 2**9 - 2
    looked = sum(state.stands_for for state in looked_at(tmp_path, events))
    assert looked == power.combinations(tmp_path, events) - left_out


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
