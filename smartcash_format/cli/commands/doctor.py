"""`doctor`: what is wrong in a root, and whether the newest checkpoint can be resumed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.text import Text

from smartcash_format.cli import asking, exits, output
from smartcash_format.disk.leftovers import Leftover, leftovers, mount_time, remains
from smartcash_format.disk.observe import validate
from smartcash_format.disk.sweeping import clear, sweep
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Depth, Problem, Report
from smartcash_format.store.catalog import Listing
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.entry import Broken, Entry
from smartcash_format.store.history import mend_history, torn_lines
from smartcash_format.view import words
from smartcash_format.view.terminal import Hanging

EXAMPLES = """
\b
Examples:
  smartcash-format doctor runs/train/weights
  smartcash-format doctor runs/train/weights --fix
  smartcash-format doctor runs/train/weights --format csv > findings.csv"""

_COLUMNS: Final = ("kind", "path", "message", "fixable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a person should know; `fixable` by --fix."""

    kind: Literal["newest", "broken", "remains", "leftover", "history", "legacy"]
    path: Path
    message: str
    fixable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The checkpoint saved last, and what a validation at STRUCTURE says of it.

    `newer` is of a newer major version: while it stands nobody knows what is newest.
    """

    entry: Entry | None
    report: Report | None
    newer: Broken | None

    @property
    def resumable(self) -> bool:
        """Whether load_checkpoint("latest") finds it whole and with the state of an optimizer."""
        is_whole = bool(self.report and self.report.valid)
        return bool(is_whole and self.newer is None and self.entry and self.entry.has_optimizer)

    @property
    def message(self) -> str:
        """Whether it can be resumed, and why not."""
        if self.newer is not None:
            return (
                f"{self.newer.path.name} is of a newer version than this reader, "
                "so what is newest cannot be known: upgrade smartcash-format"
            )
        if self.entry is None or self.report is None:
            return "there is no checkpoint that can be read"
        name = self.entry.name
        if not self.report.valid:
            return f"the newest, {name}, cannot be loaded: {self.report.message}"
        if not self.entry.has_optimizer:
            return f"the newest, {name}, has weights but no optimizer state: it cannot be resumed"
        return f"the newest, {name}, can be resumed at epoch {self.entry.epoch}"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("doctor", epilog=EXAMPLES)(doctor)


def doctor(
    root: asking.Root,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="Clear leftovers of dead writers, those of unknown ones after seven days, and make"
            " comments of torn history lines.",
        ),
    ] = False,
    clear_names: Annotated[
        list[str] | None,
        typer.Option("--clear", metavar="NAME", help="Clear this leftover, however young it is."),
    ] = None,
    form: Annotated[output.Format, asking.FORM] = output.Format.TABLE,
) -> None:
    """Look for leftovers and broken checkpoints.

    And whether the newest can be resumed, and why not.
    """
    asking.require_root(root)
    store = CheckpointStore(root)
    listing = store.list()
    if not listing and not listing.broken:
        asking.refuse_checkpoint(root)
    named = _named(root, clear_names or ())
    newest = _newest(listing)
    findings = list(_findings(store, listing, newest))
    try:
        _print(newest, findings, form)
    finally:  # also where a path could not be written
        if not listing and not findings:
            asking.point_below(root)
        mended = sum(finding.fixable for finding in findings)
        if mended and not fix and form is output.Format.TABLE:
            exits.complain(f"nothing was changed; --fix mends {mended} of these")
        if fix or named:
            _mend(root, named, fix=fix)
            findings = list(_findings(store, store.list(), newest))
    if findings or not newest.resumable:
        raise typer.Exit(exits.FOUND)


def _print(newest: Newest, findings: list[Finding], form: output.Format) -> None:
    rows = [
        {"kind": f.kind, "path": str(f.path), "message": f.message, "fixable": f.fixable}
        for f in findings
    ]
    if form in (output.Format.CSV, output.Format.PATHS) and not newest.resumable:
        exits.complain(newest.message)  # the answer has no place for it
    match form:
        case output.Format.JSON:
            about = {
                "path": newest.entry and str(newest.entry),
                "resumable": newest.resumable,
                "message": newest.message,
            }
            output.write_json("doctor", newest=about, findings=rows)
        case output.Format.CSV:
            output.write_csv(rows, _COLUMNS)
        case output.Format.PATHS:
            output.write_paths(dict.fromkeys(finding.path for finding in findings))
        case output.Format.TABLE:
            output.show(Hanging(Text(output.harmless(newest.message)), 2))
            for finding in findings:
                line = f"{finding.kind}  {finding.path.name}: {finding.message}"
                output.show(Hanging(Text(output.harmless(line)), 2))


def _newest(listing: Listing) -> Newest:
    newer = next((broken for broken in listing.broken if broken.code == "newer-version"), None)
    if not len(listing):
        return Newest(entry=None, report=None, newer=newer)
    report = validate(listing[0].path, Depth.STRUCTURE)
    return Newest(entry=listing[0], report=report, newer=newer)


def _findings(store: CheckpointStore, listing: Listing, newest: Newest) -> Iterator[Finding]:
    root = store.root
    if newest.entry is not None and newest.report is not None:
        for problem in newest.report.problems:
            message = f"{problem.where}: {problem.message} [{problem.code}]{_fix(problem)}"
            yield Finding(kind="newest", path=newest.entry.path, message=message)
        if newest.report.valid and not newest.entry.has_optimizer:
            message = "has no optimizer state: no training can be resumed from it"
            yield Finding(kind="newest", path=newest.entry.path, message=message)
    for broken in listing.broken:
        message = f"{broken.reason}{_fix(broken.problems[0])}"
        yield Finding(kind="broken", path=broken.path, message=message)
    for found in filter(None, map(remains, listing.foreign)):
        remove = shlex.join(["prune", str(root), "--remove", found.path.name, "--apply"])
        message = (
            f"has files of a checkpoint and no meta.json: {_takes(found.size_bytes, found.age_s)}, "
            "a save, copy or removal that was cut short, or a directory of something else; "
            f"smartcash-format {remove} removes it"
        )
        yield Finding(kind="remains", path=found.path, message=message)
    for leftover in leftovers(root):
        message = _about(leftover)
        yield Finding(
            kind="leftover", path=leftover.path, message=message, fixable=leftover.is_garbage
        )
    yield from _of_history(root)
    for path in listing.legacy:
        message = "an old pickle: smartcash-format convert brings it in"
        yield Finding(kind="legacy", path=path, message=message)


def _of_history(root: Path) -> Iterator[Finding]:
    try:
        torn = len(torn_lines(root))
    except OSError as error:
        said = f"{layout.HISTORY} cannot be read: {error.strerror or error}"
        yield Finding(kind="history", path=root, message=said)
        return
    if torn:
        lines = "1 line is torn" if torn == 1 else f"{torn} lines are torn"
        yield Finding(kind="history", path=root, message=lines, fixable=True)


def _fix(problem: Problem) -> str:
    return f" -> {problem.fix}" if problem.fix else ""


def _about(leftover: Leftover) -> str:
    owner = {
        "alive": "its writer is at work: leave it",
        "dead": "its writer is dead",
        "unknown": "of another machine or boot, which may be at work: cleared after seven days, or "
        f"by --clear {leftover.path.name}",
    }[leftover.life]
    return f"{leftover.kind}, {_takes(leftover.size_bytes, leftover.age_s)}, {owner}"


def _takes(size_bytes: int, age_s: float) -> str:
    return f"{words.size(size_bytes)}, {age_s / 3600:.1f} h old"


def _named(root: Path, names: list[str] | tuple[str, ...]) -> list[Leftover]:
    found = {leftover.path.name: leftover for leftover in leftovers(root)} if names else {}
    for name in names:
        if name not in found:
            doctor = f"smartcash-format doctor {shlex.quote(str(root))}"
            raise ValueError(f"{name!r} is no leftover in {root}: {doctor} lists them")
        if found[name].life == "alive":
            raise ValueError(f"the writer of {name} is at work: end it first")
    return [found[name] for name in dict.fromkeys(names)]


def _mend(root: Path, named: list[Leftover], *, fix: bool) -> None:
    freed = sum(clear(leftover.path) for leftover in named)
    torn = 0
    if fix:
        freed += sum(each.size_bytes for each in sweep(root, now=mount_time(root)))
        torn = mend_history(root)
    lines = words.several(torn, "torn history line")
    exits.complain(f"{words.size(freed)} of leftovers cleared, {lines} mended")
