"""`validate`: is it whole, and is it good enough? For people, and for CI as a gate."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import typer
from rich.text import Text

from smartcash_format.cli import asking, exits, output
from smartcash_format.cli.ci import github_lines, junit_xml, step_summary
from smartcash_format.cli.one_by_one import one_by_one
from smartcash_format.disk.leftovers import remains
from smartcash_format.disk.observe import validate as look
from smartcash_format.disk.signatures import SignedBy, verify_signature
from smartcash_format.errors import SignatureError
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Depth, Problem, Report
from smartcash_format.spec.sizes import parse_size
from smartcash_format.store import query
from smartcash_format.store.catalog import read_entry, scan
from smartcash_format.store.entry import Entry
from smartcash_format.view import words
from smartcash_format.view.terminal import Hanging

EXAMPLES = """
\b
Examples:
  smartcash-format validate runs/train/weights --depth content
  smartcash-format validate release/ --require 'metrics.val_map>=0.4'
  smartcash-format validate release/ --max-size 500MB
  smartcash-format validate runs/train/weights --format junit > report.xml
  smartcash-format validate runs/train/weights --format paths > bad.txt"""


# What is said of a finding, in this order.
_NO_FINDING: Final[Mapping[str, str | None]] = MappingProxyType(
    dict.fromkeys(("code", "where", "message", "found", "expected", "fix"))
)


class DepthName(StrEnum):
    """How hard to look."""

    META = "meta"
    STRUCTURE = "structure"
    CONTENT = "content"


class ValidateFormat(StrEnum):
    """How the findings are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PATHS = "paths"
    JUNIT = "junit"
    GITHUB = "github"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A report, and the requirements that the checkpoint does not meet."""

    path: Path
    report: Report
    unmet: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return self.report.valid and not self.unmet

    @property
    def readable(self) -> bool:
        """Whether it is there, and the system let all of it be read that was asked for."""
        codes = {problem.code for problem in self.report.problems}
        return "file-unreadable" not in codes and os.path.lexists(self.path)

    @property
    def message(self) -> str:
        """The report in a sentence, as the shell spells what it proposes."""
        return self.report.sentence("--depth content")

    def lines(self) -> Iterator[str]:
        """Every finding in a line."""
        for problem in self.report.problems:
            fix = f" -> {problem.fix}" if problem.fix else ""
            yield f"{problem.where}: {problem.message} [{problem.code}]{fix}"
        yield from self.unmet


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("validate", epilog=EXAMPLES)(validate)


def validate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="Checkpoints, their meta.json, or directories of checkpoints.",
        ),
    ],
    depth: Annotated[
        DepthName, typer.Option("--depth", help="meta: names and sizes; content: every byte.")
    ] = DepthName.STRUCTURE,
    require: Annotated[
        list[str] | None,
        typer.Option("--require", metavar="CONDITION", help="Also fail unless this holds."),
    ] = None,
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Such as 500MB or 2GiB.")
    ] = None,
    signed_by: asking.SignedBy = None,
    form: Annotated[ValidateFormat, asking.FORM] = ValidateFormat.TABLE,
) -> None:
    """Check that checkpoints are whole.

    Exit 1 when one is not, 3 when one cannot be read.
    """
    conditions = [query.parse_where(text) for text in require or ()]
    most = None if max_size is None else parse_size(max_size)
    signer = asking.parse_signed_by(signed_by)
    verdicts = [
        _judge(path, Depth[depth.name], conditions, most, signer)
        for path in one_by_one("validating checkpoints", [*_checkpoints(paths)])
    ]
    _print(verdicts, form)
    if not all(verdict.readable for verdict in verdicts):
        raise typer.Exit(exits.UNREADABLE)
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(exits.FOUND)


def _checkpoints(paths: Iterable[Path]) -> Iterator[Path]:
    """Each of them once, also where it is named and its root too."""
    seen = set()
    for path in paths:
        where = path.parent if path.name == layout.META else path
        # What it is instead of a checkpoint, or that it is not there, is the finding.
        for each in _below(where) or [where]:
            if each not in seen:
                seen.add(each)
                yield each


def _below(where: Path) -> list[Path]:
    """The checkpoints of a root, in the order of their names; none where it is no root.

    Also what has only a part of one: a gate that misses a meta.json must not pass.
    """
    try:
        if (where / layout.META).exists() or not where.is_dir():
            return []
        listing = scan(where)
        parts = [path for path in listing.foreign if remains(path)]
        found = sorted([*(each.path for each in (*listing, *listing.broken)), *parts])
        if not found:
            asking.point_below(where)
    except OSError:
        return []
    return found


def _judge(
    path: Path,
    depth: Depth,
    conditions: list[query.Where],
    max_size: int | None,
    signer: SignedBy | None,
) -> Verdict:
    report = look(path, depth)
    unmet = [] if report.meta is None else _unmet(path, report, conditions, max_size)
    if signer is not None and report.meta is not None:
        try:
            verify_signature(path, signer)
        except SignatureError as error:
            unmet.append(str(error))
    return Verdict(path=path, report=report, unmet=tuple(unmet))


def _unmet(
    path: Path, report: Report, conditions: list[query.Where], max_size: int | None
) -> list[str]:
    if not conditions and max_size is None:
        return []
    entry = read_entry(path)
    if not isinstance(entry, Entry):
        if not report.valid:
            return []  # it does not pass, and the report says why
        # It changed since the look: what cannot be asked does not hold.
        return ["vanished or changed while it was validated: run it again"]
    unmet = [
        f"{condition} does not hold: {_found(entry, condition.field)}"
        for condition in conditions
        if not condition(entry)
    ]
    if max_size is not None and entry.size_bytes > max_size:
        unmet.append(f"takes {words.size(entry.size_bytes)}, over {words.size(max_size)}")
    return unmet


def _found(entry: Entry, field: str) -> str:
    value = query.field_value(entry, field) if field != "tags" else " ".join(entry.tags) or None
    if value is not None:
        return f"it is {value}"
    said = "it says nothing there"
    if not field.startswith(query.METRICS):
        return said
    near = query.nearest_metric([entry], field.removeprefix(query.METRICS))
    if near:
        return f"{said}; did you mean {query.METRICS}{near}?"
    return f"{said}; its metrics are {query.some(sorted(entry.metrics)) or 'none'}"


def _print(verdicts: list[Verdict], form: ValidateFormat) -> None:
    cases = [(str(verdict.path), list(verdict.lines())) for verdict in verdicts]
    match form:
        case ValidateFormat.JSON:
            output.write_json("validation", reports=[_document(each) for each in verdicts])
        case ValidateFormat.CSV:
            output.write_csv([row for each in verdicts for row in _rows(each)], ())
        case ValidateFormat.PATHS:
            output.write_paths(verdict.path for verdict in verdicts if not verdict.passed)
        case ValidateFormat.JUNIT:
            output.write_utf8(junit_xml(cases) + "\n")
        case ValidateFormat.GITHUB:
            output.write("".join(f"{line}\n" for line in github_lines(cases)))
            step_summary(cases)
        case ValidateFormat.TABLE:
            for verdict in verdicts:
                _show(verdict)


def _show(verdict: Verdict) -> None:
    name = output.harmless(str(verdict.path))
    if verdict.passed:
        passed = Text.assemble(("ok  ", "green"), name, f": {verdict.message}")
        output.show(Hanging(passed, 4))
    else:
        output.show(Text.assemble(("BAD ", "bold red"), name))
        for line in verdict.lines():
            output.show(Hanging(Text(f"    {output.harmless(line)}"), 6))
    for notice in verdict.report.notices:
        output.show(Hanging(Text(f"    note: {output.harmless(notice)}", style="dim"), 6))


def _rows(verdict: Verdict) -> list[dict[str, object]]:
    """A row for each finding, or one that is empty behind the verdict."""
    document = _document(verdict)
    about = {name: document[name] for name in ("path", "valid", "passed", "depth")}
    findings = [*map(_finding, verdict.report.problems)]
    findings += [{**_NO_FINDING, "message": text} for text in verdict.unmet]
    return [{**about, **finding} for finding in findings or [_NO_FINDING]]


def _document(verdict: Verdict) -> dict[str, object]:
    return {
        "path": str(verdict.path),
        "valid": verdict.report.valid,
        "passed": verdict.passed,
        "depth": verdict.report.depth.name.lower(),
        "message": verdict.message,
        "problems": [_finding(problem) for problem in verdict.report.problems],
        "unmet": list(verdict.unmet),
        "notices": list(verdict.report.notices),
    }


def _finding(problem: Problem) -> Mapping[str, str | None]:
    return {name: getattr(problem, name) for name in _NO_FINDING}
