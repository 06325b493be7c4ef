from __future__ import annotations

import re
import subprocess
import sys

import pytest

from smartcash_format.testing.matrix import operations
from smartcash_format.testing.points import MOUNTS
from tests.processes import CHECKOUT


def run_testing(*arguments: str) -> tuple[int, str]:
    """The exit code and output of a fresh process: the matrix forks, so no thread may run."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "smartcash_format.testing", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def rows(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_no_kill_and_no_failure_breaks_a_promise_at_every_thirteenth_point() -> None:
    code, output = run_testing("--every", "13")
    assert code == 0, output
    found = rows(output)
    assert {row[0] for row in found} == {operation.name for operation in operations()}
    assert {row[1] for row in found} == {mount.name for mount in MOUNTS}
    assert {row[2] for row in found} >= {"none", "SIGKILL", "ENOSPC", "EIO", "power loss"}
    assert all(row[-1] == "0" for row in found)
    tried = re.search(r"^([0-9,]+) points tried, 0 broken promises", output, re.MULTILINE)
    assert tried is not None
    assert int(tried[1].replace(",", "")) == sum(int(row[3]) for row in found) > 50


@pytest.mark.torture
def test_no_kill_and_no_failure_breaks_a_promise_at_any_point() -> None:
    code, output = run_testing("--full")
    assert code == 0, output
