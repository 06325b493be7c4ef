"""`doctor`: what is wrong in a root, and whether the newest checkpoint can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from smartcash_format.cli import asking, exits, output
from smartcash_format.disk.leftovers import Leftover, discard, leftovers
from smartcash_format.disk.observe import validate
from smartcash_format.spec.problems import Depth, Report
from smartcash_format.store.catalog import Listing
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.entry import Entry
from smartcash_format.store.history import rewrite_history
from smartcash_format.view import words

EXAMPLES = """Examples:

  smartcash-format doctor runs/train/weights

  smartcash-format doctor runs/train/weights --fix"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a person should know; `fixable` by --fix."""

    kind: Literal["newest", "broken", "leftover", "history", "legacy"]
    path: Path
    message: str
    fixable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The checkpoint saved last, and what a validation at STRUCTURE says of it."""

    entry: Entry | None
    report: Report | None

    @property
    def resumable(self) -> bool:
        """Whether it is whole and has the state of an optimizer."""
        return bool(self.entry and self.entry.has_optimizer and self.report and self.report.valid)

    @property
    def message(self) -> str:
        """Whether it can be resumed, and why not."""
        if self.entry is None or self.report is None:
            return "there is no checkpoint that can be read"
        name = words.harmless(self.entry.name)
        if not self.report.valid:
            return f"the newest, {name}, cannot be loaded: {words.harmless(self.report.message)}"
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
            "--fix", help="Clear leftovers of writers that are not alive; drop torn history lines."
        ),
    ] = False,
    form: Annotated[output.Document, typer.Option("--format")] = output.Document.TABLE,
) -> None:
    """Look for leftovers and broken checkpoints, and whether the newest can be resumed."""
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such directory")
    store = CheckpointStore(root)
    listing = store.list()
    newest = _newest(listing)
    findings = list(_findings(store, listing, newest))
    if form is output.Document.JSON:
        documents = [
            {"kind": f.kind, "path": str(f.path), "message": f.message, "fixable": f.fixable}
            for f in findings
        ]
        about = {
            "path": newest.entry and str(newest.entry),
            "resumable": newest.resumable,
            "message": newest.message,
        }
        output.write_json("doctor", newest=about, findings=documents)
    else:
        output.show(Text(newest.message))
        for finding in findings:
            line = f"{finding.kind}  {finding.path.name}: {finding.message}"
            output.show(Text(words.harmless(line, 2_000)))
    if fix:
        _fix(root)
    if findings and not (fix and all(finding.fixable for finding in findings)):
        raise typer.Exit(exits.FOUND)


def _newest(listing: Listing) -> Newest:
    if not len(listing):
        return Newest(entry=None, report=None)
    return Newest(entry=listing[0], report=validate(listing[0].path, Depth.STRUCTURE))


def _findings(store: CheckpointStore, listing: Listing, newest: Newest) -> Iterator[Finding]:
    root = store.root
    for problem in newest.report.problems if newest.report else ():
        message = f"{problem.where}: {problem.message} [{problem.code}]"
        yield Finding(kind="newest", path=listing[0].path, message=message)
    for broken in listing.broken:
        yield Finding(kind="broken", path=broken.path, message=broken.reason)
    for leftover in leftovers(root):
        yield Finding(
            kind="leftover",
            path=leftover.path,
            message=_about(leftover),
            fixable=leftover.life != "alive",
        )
    if skipped := store.events().skipped:
        message = f"{skipped} lines cannot be read"
        yield Finding(kind="history", path=root, message=message, fixable=True)
    for path in listing.legacy:
        message = "an old pickle: smartcash-format convert brings it in"
        yield Finding(kind="legacy", path=path, message=message)


def _about(leftover: Leftover) -> str:
    owner = {
        "alive": "its writer is at work: leave it",
        "dead": "its writer is dead",
        "unknown": "of another machine or boot",
    }[leftover.life]
    hours = leftover.age_s / 3600
    return f"{leftover.kind}, {words.size(leftover.size_bytes)}, {hours:.1f} h old, {owner}"


def _fix(root: Path) -> None:
    freed = sum(discard(each.path) for each in leftovers(root) if each.life != "alive")
    dropped = rewrite_history(root)
    exits.complain(f"{words.size(freed)} of leftovers cleared, {dropped} history lines dropped")
