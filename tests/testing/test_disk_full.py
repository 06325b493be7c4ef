"""A disk that is full at a dozen levels: really, where one can be mounted; else by injection."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import CHECKOUT, run_python

LEVELS = 12

# In a mount namespace of its own, so that nothing of it outlives the process.
SHELL = 'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$2" -c "$3" "$1"'

PROGRAM = f"""
import errno, json, os, sys
from pathlib import Path
from smartcash_format.disk import publish
from smartcash_format.disk.leftovers import leftovers
from smartcash_format.errors import CheckpointWriteError, InsufficientSpaceError
from smartcash_format.testing import sample
from smartcash_format.testing.promise import is_whole

place = Path(sys.argv[1])
root, filler = place / "root", place / "filler"
earlier = [sample.write_sample(root, epoch=epoch, floats=30_000) for epoch in (1, 2)]
taken = sum(os.stat(path).st_blocks * 512 for path in earlier[0].iterdir())
early = sample.require_space
results = []
for check in (early, lambda *args: None):
    sample.require_space = check
    for level in range({LEVELS}):
        free = publish.free_bytes(place)
        leave = taken * level * 12 // (10 * {LEVELS})
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - leave))
        try:
            outcome = "saved"
            path = sample.write_sample(root, epoch=3 + level, floats=30_000)
        except CheckpointWriteError as error:
            path = None
            outcome = type(error).__name__ if error.errno == errno.ENOSPC else repr(error)
        standing = all(map(is_whole, [*earlier, *([path] if path else [])]))
        left = [str(leftover.path) for leftover in leftovers(root)]
        filler.unlink()
        if path:
            publish.remove(path)
        again = is_whole(sample.write_sample(root, epoch=50 + level, floats=30_000))
        publish.remove(root / sample.sample_name(50 + level))
        results.append([check is early, level, outcome, standing, left, again])
print(json.dumps(results))
"""


def run_on_small_disk(place: Path) -> list[list[object]]:
    for namespace in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        if shutil.which("unshare") is None:
            break
        probe = [*namespace, "mount", "-t", "tmpfs", "tmpfs", str(place)]
        if subprocess.run(probe, capture_output=True, check=False).returncode:
            continue
        command = [*namespace, "sh", "-c", SHELL, "sh", str(place), sys.executable, PROGRAM]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: list[list[object]] = json.loads(done.stdout)
        return found
    pytest.skip("this machine lets no small disk be mounted")


def test_a_full_disk_refuses_a_save_keeps_all_and_is_written_again_when_there_is_room(
    tmp_path: Path,
) -> None:
    results = run_on_small_disk(tmp_path)
    assert len(results) == 2 * LEVELS
    for early, level, outcome, standing, left, again in results:
        told = f"level {level}, asked before {early}: {outcome}"
        refusal = "InsufficientSpaceError" if early else "CheckpointWriteError"
        assert outcome in ("saved", refusal), told
        assert standing, told
        assert left == [], told
        assert again, told
    outcomes = {(early, outcome) for early, _, outcome, *_ in results}
    assert outcomes == {
        (True, "saved"),
        (True, "InsufficientSpaceError"),
        (False, "saved"),
        (False, "CheckpointWriteError"),
    }


# Each run is forked, so no thread may run: in a process of its own.
INJECTED = f"""
import tempfile
from pathlib import Path
from smartcash_format.testing.crash import points_of, strike
from smartcash_format.testing.matrix import LASTING, fast_directory
from smartcash_format.testing.training import operations
(operation,) = (one for one in operations() if one.name == "manager: save")
with tempfile.TemporaryDirectory(dir=fast_directory()) as place:
    template, root = Path(place) / "template", Path(place) / "root"
    operation.prepare(template)
    points = [p for p in points_of(operation, template, root) if p.op in ("create", "write")]
    for level in range({LEVELS}):
        point = points[level * len(points) // {LEVELS}]
        result = strike(operation, template, root, point=point, fault=LASTING[0])
        print(result.outcome, result.raised, *result.violations)
"""


@pytest.mark.torch
def test_a_disk_that_is_full_from_some_write_of_a_managers_save_on_costs_no_checkpoint() -> None:
    outcomes = run_python(INJECTED).splitlines()
    assert len(outcomes) == LEVELS
    # The last writes are those of the history, which fails no save.
    assert set(outcomes) == {"refused CheckpointWriteError", "completed "}
    assert outcomes.count("completed ") <= 1
