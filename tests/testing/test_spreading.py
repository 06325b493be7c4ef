"""Trials on all cores: no result is lost or out of order, and a job that fails is said."""

from __future__ import annotations

from tests.processes import run_python

PROGRAM = """
import errno, os, time
from functools import partial
from smartcash_format.testing import spreading
from smartcash_format.testing.crash import Result
from smartcash_format.testing.points import Fault, Point
from smartcash_format.testing.spreading import spread
spreading.CORES = 3

def trial(job, number):
    return Result(
        operation=f"{{job}} {{number}}",
        mount="local",
        fault=Fault(effect="fail", errno=errno.EIO, lasting=True),
        point=Point("write", "\\udcff\\n", 2),
        outcome="killed",
        violations=("one", "two"),
    )

def jobs(bad=None):
    for job in range(7):
        yield bad if job == 4 and bad else partial(several, job)

def several(job):
    for number in range(3):
        time.sleep(0.01 * (7 - job))
        yield trial(job, number)
{rest}
"""


def run(rest: str) -> str:
    return run_python(PROGRAM.format(rest=rest))


def test_results_come_in_the_order_of_their_jobs_as_they_were_made() -> None:
    assert run(
        "print(list(spread(jobs())) == [trial(j, n) for j in range(7) for n in range(3)])"
    ) == ("True\n")


def test_as_many_jobs_as_there_are_cores_run_at_a_time() -> None:
    # Each waits until three are there.
    rest = """
import tempfile
from pathlib import Path

def meeting(place, number):
    Path(place, str(number)).touch()
    while len(os.listdir(place)) < 3:
        time.sleep(0.01)
    yield trial(number, 0)

with tempfile.TemporaryDirectory() as place:
    print(len(list(spread(partial(meeting, place, number) for number in range(3)))))
"""
    assert run(rest) == "3\n"


def test_a_job_that_raises_or_dies_is_an_error_and_nothing_goes_on_after_it() -> None:
    rest = """
def raising():
    yield trial(4, 0)
    raise ValueError("mine")

def dying():
    os._exit(9)

for bad in (raising, dying):
    found = []
    try:
        for result in spread(jobs(bad)):
            found.append(result)
    except RuntimeError as error:
        print(len(found), str(error).splitlines()[-1])
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        print("no process is left")
"""
    assert run(rest).splitlines() == [
        "13 ValueError: mine",
        "no process is left",
        "12 a process of the matrix ended with status 2304",
        "no process is left",
    ]
