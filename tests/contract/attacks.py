"""Writes docs/attacks.md from the tests: `python -m tests.contract.attacks`.

The examples of the format are validated; each other row is what a test says of itself by
`@pytest.mark.attack(table, what, answer)`, or by `each_of=`, a dict whose keys are tried.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from smartcash_format.disk.observe import validate
from tests.contract.invalid import INVALID
from tests.contract.make import EXAMPLES

ROOT: Final = Path(__file__).parents[2]
DOCUMENT: Final = ROOT / "docs" / "attacks.md"

_HEAD: Final = """# What is refused, and where

Made from the tests by `python -m tests.contract.attacks`; a test holds that it is up to date.

`META` is what `validate` looks at when it is asked to be quick, `STRUCTURE` is looked at before
every load and by `validate`, `CONTENT` compares every digest (a verified load does so for what it
loads). A breach that one depth finds every deeper one finds too. The codes are those of
[FORMAT.md](../schemas/FORMAT.md), section 15.

## In the files of a checkpoint

Each has a directory of its own under `schemas/examples/invalid`, named by the code and by what was
done. `at` is the place that the finding names first.

| code | depth | at | what was done |
|---|---|---|---|
"""
_MADE: Final = """
## Made by the tests: too large, too many, or no file that a repository can keep

| attack | code | test |
|---|---|---|
"""
_LOADED: Final = """
## When live objects are to be filled

Found before anything live is touched.

| attack | refused as | test |
|---|---|---|
"""
_CONVERTED: Final = """
## In files of others that `convert` reads

Refused with `UnsafeCheckpointError` or `UnsavableStateError`, by a process that imports nothing;
what could take long is refused soon.

| attack | test |
|---|---|
"""
_MOVED: Final = """
## On the way: copies, `receive`, signatures, what is shown

| attack | answer | test |
|---|---|---|
"""
_TABLES: Final = {"large": _MADE, "load": _LOADED, "convert": _CONVERTED, "move": _MOVED}


def document() -> str:
    """The text of docs/attacks.md."""
    text = _HEAD + "".join(_examples())
    marked = list(_marked())
    assert {attack.where for attack in marked} <= _TABLES.keys()
    for where, head in _TABLES.items():
        text += head + "".join(attack.row for attack in marked if attack.where == where)
    return text


@dataclass(frozen=True, slots=True)
class _Attack:
    """What a test says of itself in `@pytest.mark.attack(table, what, answer)`."""

    where: str
    what: str
    answer: str
    link: str

    @property
    def row(self) -> str:
        cells = [self.what, self.answer, self.link]
        return f"| {' | '.join(cell for cell in cells if cell)} |\n"


def _marked() -> Iterator[_Attack]:
    """Every attack that a test is marked with, in the order of files and lines."""
    for path in sorted((ROOT / "tests").glob("**/test_*.py")):
        text = path.read_text("utf-8")
        if "pytest.mark.attack(" not in text:
            continue
        module = ast.parse(text)
        for test in ast.walk(module):
            for mark in getattr(test, "decorator_list", ()):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.attack":
                    assert isinstance(test, ast.FunctionDef)
                    name = test.name.removeprefix("test_").replace("_", " ")
                    link = f"[{name}](../{path.relative_to(ROOT).as_posix()})"
                    yield from _said(module, mark, link)


def _said(module: ast.Module, mark: ast.Call, link: str) -> Iterator[_Attack]:
    where, *said = (ast.literal_eval(argument) for argument in mark.args)
    if mark.keywords:
        (of,) = mark.keywords
        assert of.arg == "each_of"
        for what in _keys(module, ast.literal_eval(of.value)):
            yield _Attack(where, what, "", link)
    else:
        what, answer = (*said, "")[:2]
        yield _Attack(where, what, answer, link)


def _keys(module: ast.Module, name: str) -> list[str]:
    """The keys of a dict that a test is tried with, by the dict's name in its module."""
    for node in module.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if ast.unparse(target) == name:
                assert isinstance(node.value, ast.Dict)
                return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    raise AssertionError(f"no {name}")


def _examples() -> list[str]:
    """A row for each code, depth and place."""
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for name, breach in INVALID.items():
        code, _, what = name.partition("--")
        report = validate(EXAMPLES / "invalid" / name, breach.depth)
        first = next(problem for problem in report.problems if problem.code == code)
        place = first.where.partition(":")[0].partition("[")[0]
        place = place if (EXAMPLES / "invalid" / name / place).is_file() else "meta.json"
        found[code, breach.depth.name, place].append(what.replace("-", " ") or code)
    return [
        f"| {code} | {depth} | `{place}` | {'; '.join(what)} |\n"
        for (code, depth, place), what in found.items()
    ]


if __name__ == "__main__":
    DOCUMENT.write_text(document(), "utf-8")
