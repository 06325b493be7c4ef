"""Minutes of it: random kills, and faults at the level of system calls, by strace."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smartcash_format.testing.crash import look, visible
from smartcash_format.testing.matrix import operations
from tests.processes import CHECKOUT
from tests.testing.test_matrix import run_testing


def test_a_large_save_killed_at_some_random_moments_loses_nothing() -> None:
    code, output = run_testing("--kills", "10")
    assert code == 0, output


@pytest.mark.torture
def test_a_large_save_killed_at_a_thousand_random_moments_loses_nothing() -> None:
    code, output = run_testing("--kills", "1000")
    assert code == 0, output
    killed = re.search(r"\| large save \| killed at a random moment \| 1,000 \|.*", output)
    assert killed is not None, output


# What our writers change a directory with; the interpreter itself makes none of these calls.
CALLS = ["pwrite64", "fsync", "rename", "mkdir", "unlinkat", "rmdir", "linkat"]
EFFECTS = ["signal=SIGKILL", "error=ENOSPC", "error=EIO", "error=EINTR"]

PROGRAM = """
import sys
from pathlib import Path
from smartcash_format.errors import CheckpointError
from smartcash_format.testing.matrix import operations
(operation,) = (o for o in operations() if o.name == "save, then keep the newest 3")
try:
    operation.run(Path(sys.argv[1]), lambda path: print(path, flush=True))
except (CheckpointError, OSError):
    sys.exit(3)
"""


def traced(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["strace", "-f", "-qq", *options, sys.executable, "-B", "-c", PROGRAM, str(root)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


@pytest.mark.torture
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("call", CALLS)
def test_a_system_call_that_kills_or_fails_loses_nothing(
    tmp_path: Path, call: str, effect: str
) -> None:
    (operation,) = (o for o in operations() if o.name == "save, then keep the newest 3")
    template, root, log = tmp_path / "template", tmp_path / "root", tmp_path / "log"
    operation.prepare(template)
    shutil.copytree(template, root)
    if traced(root, "-o", str(log), "-e", f"trace={call}").returncode:
        pytest.skip("strace may trace nothing here")
    calls = len([line for line in log.read_text().splitlines() if f"{call}(" in line])
    assert calls
    # strace counts a thread's own calls: some of these numbers strike twice, and some nothing.
    for number in range(1, calls + 1):
        shutil.rmtree(root)
        shutil.copytree(template, root)
        earlier = visible(root)
        inject = f"inject={call}:{effect}:when={number}"
        done = traced(root, "-o", "/dev/null", "-e", f"trace={call}", "-e", inject)
        assert done.returncode in (0, 3, -9, 137), done.stderr
        saved = [Path(line) for line in done.stdout.splitlines()]
        found, halves = look(root, earlier, saved, operation)
        assert (found, halves) == ([], 0), f"{call} {effect} at {number}: {found}"
