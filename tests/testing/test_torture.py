"""Minutes of it: random kills, and faults at the level of system calls, by strace."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from smartcash_format.testing import matrix, training
from smartcash_format.testing.crash import copy_of
from smartcash_format.testing.promise import Told, look, standing
from tests.testing.system_calls import calls_below, needs_strace, traced
from tests.testing.test_matrix import rows, run_testing

# Below the interpreter nothing is known of our errors: what the system may say, and a kill.
ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EACCES", "EROFS", "EXDEV", "EINTR")
EFFECTS = ("signal=SIGKILL", *(f"error={error}" for error in ERRORS))
OPERATIONS = {
    operation.name: operation for operation in (*matrix.operations(), *training.operations())
}

RUN = """
import sys
from pathlib import Path
from smartcash_format.errors import CheckpointError
from smartcash_format.testing import matrix, training
operations = (*matrix.operations(), *training.operations())
(operation,) = (one for one in operations if one.name == {name!r})
if "manager" in operation.name:
    training._live()
print("begun", flush=True)
try:
    operation.run(Path(sys.argv[1]), lambda word, what: print(word, what, flush=True))
except (CheckpointError, OSError):
    sys.exit(3)
"""

SEEN = """
import sys
from pathlib import Path
from smartcash_format.testing.faults import Layer
from smartcash_format.testing.training import operations
(operation,) = (one for one in operations() if one.name == "manager: save with keep=")
with Layer(Path(sys.argv[1])) as layer:
    operation.run(Path(sys.argv[1]), lambda word, what: None)
assert not layer.unseen
for point in layer.points:
    print(point.op, point.path, sep="\t")
"""


@pytest.mark.no_cover
def test_a_large_save_is_killed_at_some_random_moments_and_loses_nothing() -> None:
    assert killed("--only", "kills") == matrix.QUICK_KILLS


@pytest.mark.torture
def test_a_large_save_is_killed_at_a_thousand_random_moments_and_loses_nothing() -> None:
    assert killed("--only", "kills", "--full") == 1_000


def killed(*arguments: str) -> int:
    """How many runs of the large save were killed, when no promise was broken."""
    code, output = run_testing(*arguments)
    assert code == 0, output
    (row,) = (row for row in rows(output) if row[:2] == ["large save", "killed at a random moment"])
    return int(row[5].replace(",", ""))


@pytest.mark.no_cover
@pytest.mark.torch
def test_the_layer_sees_every_system_call_of_a_managers_save(tmp_path: Path) -> None:
    needs_strace(tmp_path)
    root, log = tmp_path / "root", tmp_path / "log"
    OPERATIONS["manager: save with keep="].prepare(root)
    done = traced(SEEN, root, log)
    assert done.returncode == 0, done.stderr
    seen = sorted(tuple(line.split("\t")) for line in done.stdout.splitlines())
    made = sorted((call.op, spelled(call.path)) for call in calls_below(root, log))
    assert made == seen
    assert {op for op, _ in made} >= {"create", "write", "fsync", "rename", "mkdir", "unlink"}


def spelled(path: str) -> str:
    """A path as the layer spells it: without what differs in each run."""
    return re.sub(r"(\.staging|\.trash|\.probe|epoch-[0-9]+)-[0-9a-f-]+", r"\1", path)


def struck(name: str, effect: str, tmp_path: Path, every: int = 1) -> tuple[set[str], list[str]]:
    """The calls of an operation that were struck one after the other, and what that broke."""
    operation = OPERATIONS[name]
    template, root, log = tmp_path / "template", tmp_path / "root", tmp_path / "log"
    operation.prepare(template)
    copy_of(template, root)
    program = RUN.format(name=name)
    assert traced(program, root, log).returncode == 0
    # A fault at a call strikes that number in every thread; the same is not tried twice.
    cases = dict.fromkeys((call.name, call.nth) for call in calls_below(root, log))
    found: list[str] = []
    for call, nth in list(cases)[::every]:
        shutil.rmtree(root)
        copy_of(template, root)
        earlier = standing(root)
        done = traced(program, root, log, f"{call}:{effect}:when={nth}")
        if "begun" not in done.stdout:
            continue  # it struck while Python started, in which the root was not touched
        assert done.returncode in (0, 3, -9, 137), (call, nth, done.stderr)
        lines = [line.partition(" ") for line in done.stdout.splitlines()]
        told: Told = [(word, what) for word, _, what in lines if what]  # type: ignore[misc]
        violations, halves = look(root, earlier, told, operation)
        assert halves == 0
        found += [f"{call} {effect} at {nth}: {violation}" for violation in violations]
    return {call for call, _ in cases}, found


@pytest.mark.torture
@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("name", ["save, then keep the newest 3", "copy", "protect", "strip"])
def test_a_system_call_that_kills_or_fails_loses_nothing(
    tmp_path: Path, name: str, effect: str
) -> None:
    needs_strace(tmp_path)
    calls, found = struck(name, effect, tmp_path)
    assert found == []
    assert calls >= {"openat", "fsync", "rename"}


@pytest.mark.torch
@pytest.mark.torture
@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("name", ["manager: save with keep=", "manager: save in the background"])
def test_a_system_call_that_kills_or_fails_in_a_managers_save_loses_nothing(
    tmp_path: Path, name: str, effect: str
) -> None:
    needs_strace(tmp_path)
    calls, found = struck(name, effect, tmp_path, every=3)
    assert found == []
    assert calls >= {"openat", "write", "pwrite64", "fsync", "rename", "mkdir"}
    assert ("unlinkat" in calls) == (name == "manager: save with keep=")
