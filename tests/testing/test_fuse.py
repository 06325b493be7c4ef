"""A real mount like Drive's, where /dev/fuse is there and this machine lets it be mounted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import CHECKOUT

PROGRAM = """
import contextlib, errno, json, os, sys
from pathlib import Path
from smartcash_format.disk.leftovers import leftovers
from smartcash_format.disk.publish import remove
from smartcash_format.disk.transfer import transfer
from smartcash_format.errors import CheckpointError
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.testing.matrix import ALL_FAULTS, operations, run_matrix, worst
from smartcash_format.testing.points import LOCAL
from smartcash_format.testing.promise import is_whole
from smartcash_format.testing.sample import write_sample
from smartcash_format.testing.storage import storage_test
from tests.testing.fuse_mount import Server, mount

place, backing = Path(sys.argv[1]), Path(sys.argv[2])

@contextlib.contextmanager
def served(moves=None):
    point = place / f"mount-{moves}"
    point.mkdir()
    try:
        descriptor = mount(point)
    except OSError as error:
        print(json.dumps({"refused": str(error)}))
        sys.exit(0)
    child = os.fork()
    if child == 0:
        try:
            Server(descriptor, backing, moves).run()
        finally:
            os._exit(0)
    os.close(descriptor)
    try:
        yield point
    finally:
        os.system(f"umount -l {point}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 9)
        os.waitpid(child, 0)

found = {}
if sys.argv[3:]:
    # Each fault of the matrix, every so manieth of its points: to the layer this mount is like any
    # other, it lacks what it lacks by itself.
    with served() as point:
        tried = [one for one in operations() if one.name in ("save", "prune", "strip", "copy")]
        results = list(
            run_matrix(point, tried, mounts=[LOCAL], faults=ALL_FAULTS, every=int(sys.argv[3]))
        )
    found["tried"] = {outcome: sum(one.outcome == outcome for one in results)
                      for outcome in ("completed", "refused", "killed")}
    found["broken"] = worst(results)
    print(json.dumps(found))
    sys.exit(0)
with served() as point:
    found["missing"] = [f.name for f in storage_test(point).findings if not f.holds]
    root = point / "root"
    paths = [write_sample(root, epoch=epoch) for epoch in (1, 2, 3)]
    remove(paths[0])
    copies = transfer(paths[1:], point / "copies")
    found["whole"] = [is_whole(path) for path in (*paths[1:], *copies.copied)]
    found["left"] = os.listdir(root) and [str(x.path) for x in leftovers(root)]
kept = sorted(path.name for path in paths[1:])
found["crashes"] = []
for moves in range(5):
    with served(moves) as point:
        try:
            write_sample(point / "root", epoch=10 + moves)
            raised = ""
        except (CheckpointError, OSError) as error:
            raised = type(error).__name__
    store = CheckpointStore(backing / "root")
    listed = [entry.path for entry in store.list()]
    whole = all(map(is_whole, listed))
    stand = set(kept) <= {path.name for path in listed}
    again = write_sample(backing / "root", epoch=20 + moves)
    found["crashes"].append([raised, whole, stand, store.latest().path == again])
print(json.dumps(found))
"""


def on_fuse(place: Path, *every: str) -> dict[str, Any]:
    """What PROGRAM found there, in a mount namespace of its own; skips where there is none."""
    if not os.path.exists("/dev/fuse") or shutil.which("unshare") is None:
        pytest.skip("needs /dev/fuse and unshare")
    (place / "place").mkdir()
    (place / "backing").mkdir()
    command = ["unshare", "--mount", sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        [*command, str(place / "place"), str(place / "backing"), *every],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=3_600,
    )
    if "unshare" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    if "refused" in found:
        pytest.skip(f"nothing can be mounted here: {found['refused']}")
    return found


@pytest.mark.no_cover
def test_no_fault_breaks_a_promise_at_some_points_on_such_a_mount(tmp_path: Path) -> None:
    found = on_fuse(tmp_path, "90")
    assert found["broken"] == []
    assert min(found["tried"].values()) > 0


@pytest.mark.torture
def test_no_fault_breaks_a_promise_at_every_third_point_on_such_a_mount(tmp_path: Path) -> None:
    found = on_fuse(tmp_path, "3")
    assert found["broken"] == []
    assert sum(found["tried"].values()) > 400


def test_a_mount_that_renames_children_one_by_one_never_shows_a_half(tmp_path: Path) -> None:
    found = on_fuse(tmp_path)
    assert set(found["missing"]) >= {"rename at once", "directory fsync", "hard links", "modes"}
    assert "checkpoints" not in found["missing"]
    assert found["whole"] == [True] * 4
    assert found["left"] == []
    for moves, (raised, whole, stand, newest) in enumerate(found["crashes"]):
        assert (whole, stand, newest) == (True, True, True), f"died after {moves} moves"
        assert bool(raised) == (moves < 4), f"died after {moves} moves: {raised}"
