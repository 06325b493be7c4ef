"""Pickle programs, and what reading one of them answers."""

from __future__ import annotations

import pickle
from typing import Any

from smartcash_format.spec.pickles import Program, read_program
from smartcash_format.spec.problems import Problem

WHERE = "optimizer.pt: data.pkl"


def read(program: bytes, **sizes: int) -> tuple[Program | None, tuple[Problem, ...]]:
    storages = {name.removeprefix("_"): size for name, size in sizes.items()}
    return read_program(program, where=WHERE, storages=storages)


def refused(program: bytes, **sizes: int) -> Problem:
    found, problems = read(program, **sizes)
    assert found is None
    (problem,) = problems
    assert problem.where == WHERE
    assert problem.message.isprintable()
    return problem


def value_of(program: bytes, **sizes: int) -> Any:
    found, problems = read(program, **sizes)
    assert problems == ()
    assert found is not None
    return found.value


def program(value: object) -> bytes:
    return pickle.dumps(value, protocol=2)
