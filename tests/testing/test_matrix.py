from __future__ import annotations

import re
import subprocess
import sys

import pytest

from smartcash_format.testing import matrix, training
from smartcash_format.testing.matrix import operations
from smartcash_format.testing.points import MOUNTS
from tests.processes import CHECKOUT, run_python

DONE = re.compile(r"[a-z:, =0-9]+: [0-9,]+ points tried, [0-9,]+ s since the start")


def run_testing(*arguments: str) -> tuple[int, str]:
    """The exit code and output of a fresh process: the matrix forks, so no thread may run."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "smartcash_format.testing", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    # A line for each operation as it is done, and no warning.
    progress = done.stderr.splitlines()
    assert progress
    assert all(DONE.fullmatch(line) for line in progress), done.stderr
    return done.returncode, done.stdout


def rows(table: str) -> list[list[str]]:
    """The cells of every table line but the heads."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if "points" not in row]


def test_no_kill_and_no_failure_breaks_a_promise_at_every_60th_point() -> None:
    code, output = run_testing("--only", "store", "--every", "60")
    assert code == 0, output
    by_fault, by_mount = ([row for row in rows(output) if len(row) == n] for n in (8, 7))
    assert {row[0] for row in by_fault} == {operation.name for operation in operations()}
    assert {row[0] for row in by_mount} == {mount.name for mount in MOUNTS}
    faults = {fault.name for fault in matrix.ALL_FAULTS}
    assert {row[1] for row in by_fault} == faults | {"none", "power loss"}
    assert {row[-1] for row in rows(output)} == {"0"}
    tried = re.search(r"^([0-9,]+) points tried, 0 broken promises", output, re.MULTILINE)
    assert tried is not None
    assert int(tried[1].replace(",", "")) == sum(int(row[2]) for row in by_fault) > 40


EVERY_CUT = """
from smartcash_format.testing import matrix
{imported}
tried = [one for one in {module}.operations() if one.name in {names}]
found = list(matrix.run_power_loss(matrix.fast_directory(), tried, draws=0))
print(matrix.tables(found))
print(*matrix.worst(found), sep="\\n")
"""


@pytest.mark.no_cover
@pytest.mark.parametrize("name", [operation.name for operation in operations()])
def test_every_state_that_a_power_cut_may_leave_keeps_the_promise(name: str) -> None:
    output = run_python(EVERY_CUT.format(imported="", module="matrix", names=[name]))
    every_state_was_looked_at(output, name)


@pytest.mark.torch
def test_every_state_that_a_power_cut_in_a_managers_save_may_leave_keeps_the_promise() -> None:
    imported = "from smartcash_format.testing import training"
    names = ["manager: incremental save"]
    output = run_python(EVERY_CUT.format(imported=imported, module="training", names=names))
    every_state_was_looked_at(output, names[0])


def every_state_was_looked_at(output: str, name: str) -> None:
    found = re.search(rf"^- {name}: [0-9,]+ for ([0-9,]+) of ([0-9,]+)$", output, re.MULTILINE)
    assert found is not None, output
    assert found[1] == found[2]
    assert re.search(r" points tried, 0 broken promises\.\s*$", output), output


@pytest.mark.no_cover
@pytest.mark.torch
def test_no_kill_and_no_failure_breaks_a_promise_of_a_manager_at_some_points() -> None:
    code, output = run_testing("--only", "manager", "--every", "150")
    assert code == 0, output
    found = {row[0] for row in rows(output)}
    assert found >= {operation.name for operation in training.operations()}


def test_the_published_table_has_every_operation_and_fault_and_breaks_no_promise() -> None:
    text = (CHECKOUT / "docs" / "durability.md").read_text()
    table = rows(text.partition("\n## Beside the matrix")[0])
    found = {(row[0], row[1]) for row in table if len(row) == 8}
    tried = [*operations(), *training.operations()]
    assert {name for name, _ in found} == {"large save", *(one.name for one in tried)}
    faults = {fault.name for fault in matrix.ALL_FAULTS}
    assert {fault for name, fault in found if name == "manager: save"} == {
        "none", "power loss", *faults
    }  # fmt: skip
    assert {row[-1] for row in table if len(row) in (7, 8)} == {"0"}


POINTS = """
import tempfile
from pathlib import Path
from smartcash_format.testing import matrix, training
from smartcash_format.testing.crash import points_of
from smartcash_format.testing.points import MOUNTS
with tempfile.TemporaryDirectory(dir=matrix.fast_directory()) as place:
    # Those of torch last: it makes every fork after it slower.
    for number, operation in enumerate([*matrix.operations(), *training.operations()]):
        # Each beside what it makes itself, and beside nothing that another one made.
        own = Path(place, str(number))
        own.mkdir()
        template, root = own / "template", own / "root"
        operation.prepare(template)
        count = sum(len(points_of(operation, template, root, mount)) for mount in MOUNTS)
        print(operation.name, count, sep="|")
"""


@pytest.mark.torch
def test_the_published_table_has_as_many_points_as_there_are() -> None:
    published = {row[0]: row[2] for row in published_rows() if row[1] == "SIGKILL"}
    counted = dict(line.split("|") for line in run_python(POINTS).splitlines())
    assert published == counted


def test_the_published_totals_are_those_of_the_published_rows() -> None:
    text = (CHECKOUT / "docs" / "durability.md").read_text()
    tried = re.search(r"^([0-9,]+) points tried, 0 broken promises", text, re.MULTILINE)
    assert tried is not None
    by_mount = [row for row in rows(text.partition("\n## Beside the matrix")[0]) if len(row) == 7]
    assert {number(tried[1])} == {
        sum(number(row[1]) for row in by_mount),
        sum(number(row[2]) for row in published_rows()),
    }


def published_rows() -> list[list[str]]:
    """The rows of docs/durability.md by operation and fault."""
    text = (CHECKOUT / "docs" / "durability.md").read_text()
    return [row for row in rows(text.partition("\n## Beside the matrix")[0]) if len(row) == 8]


def number(text: str) -> int:
    return int(text.replace(",", ""))
