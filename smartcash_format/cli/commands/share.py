"""`share` and `receive`: a checkpoint for others, and one from others."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from smartcash_format.cli import asking, exits, output
from smartcash_format.cli.one_by_one import Failed, one_by_one
from smartcash_format.errors import CheckpointError
from smartcash_format.integrations import share as sharing
from smartcash_format.integrations.share import Received, Shared
from smartcash_format.spec.personal import Finding
from smartcash_format.view import terminal, words

# On a terminal a longer table stops being read.
SHOWN: Final = 100
_SHARE_COLUMNS: Final = ("path", "outcome", "where", "kind", "text")
_RECEIVE_COLUMNS: Final = ("outcome", "source", "path", "reason")
# What became of a finding, as CSV says it and as the table does.
_OUTCOMES: Final = MappingProxyType(
    {
        "removed": "removed",
        "there": "still there: --clean removes it",
        "kept": "stays: part of the state",
    }
)
SHARE_EXAMPLES = """
\b
Examples:
  smartcash-format share CHECKPOINT -o to_publish
  smartcash-format share CHECKPOINT -o to_publish --clean
  smartcash-format share CHECKPOINT -o to_publish --format csv > found.csv

Exit code 1 says that something was found and is still there."""
RECEIVE_EXAMPLES = """
\b
Examples:
  smartcash-format receive downloaded -o runs/received
  smartcash-format receive downloaded -o runs/received --signed-by team.pub
  smartcash-format receive downloaded -o ROOT --format csv > came.csv

Exit code 3 says that a checkpoint is not what it says; it is not there then, the
others are."""


def register(app: typer.Typer) -> None:
    """Adds both commands."""
    app.command("share", epilog=SHARE_EXAMPLES)(share)
    app.command("receive", epilog=RECEIVE_EXAMPLES)(receive)


def share(
    checkpoint: asking.Checkpoint,
    directory: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="A new or empty directory.")
    ],
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove what is found: paths, names, commands.")
    ] = False,
    resume_state: Annotated[
        bool, typer.Option("--resume-state", help="With optimizer, scheduler and extra state.")
    ] = False,
    form: Annotated[output.Format, asking.FORM] = output.Format.TABLE,
) -> None:
    """Make a checkpoint for others.

    Its weights, its metadata, and a model card to finish.
    """
    done = sharing.share(checkpoint, directory, clean=clean, resume_state=resume_state)
    found = _found(done)
    left = sum(outcome != "removed" for outcome, _ in found)
    match form:
        case output.Format.JSON:
            output.write_json(
                "share",
                path=str(done.path),
                card=str(done.card),
                findings=[asdict(finding) for finding in done.findings],
                removed=done.removed,
                kept=[asdict(finding) for finding in done.kept],
                left_out=list(done.left_out),
            )
        case output.Format.CSV:
            # One without a finding was made all the same.
            rows = [{"outcome": outcome, **asdict(finding)} for outcome, finding in found] or [{}]
            output.write_csv([{"path": str(done.path), **row} for row in rows], _SHARE_COLUMNS)
        case output.Format.PATHS:
            if left:  # the answer has no place for it
                exits.complain(
                    f"{done.path}: {words.several(left, 'finding')} still there: "
                    "--format csv shows where, --clean removes what is no part of the state"
                )
            output.write_paths([done.path])
        case output.Format.TABLE:
            _show(done, found)
    if left:
        raise typer.Exit(exits.FOUND)


def receive(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A checkpoint, or a directory of them.")
    ],
    root: Annotated[Path, typer.Option("--output", "-o", metavar="ROOT", help="Where they go.")],
    signed_by: asking.SignedBy = None,
    form: Annotated[output.Format, asking.FORM] = output.Format.TABLE,
) -> None:
    """Take in checkpoints of others.

    Each is there when its last byte is validated.
    """
    signer = asking.parse_signed_by(signed_by)
    found: list[Received | Failed] = []
    code = exits.FINE
    for source in one_by_one("receiving checkpoints", sharing.checkpoints_in(directory)):
        try:
            found += sharing.receive(source, root, signed_by=signer)
        # One that is not what it says leaves the others.
        except (CheckpointError, OSError) as error:
            code = max(code, exits.code_of(error))
            said = exits.one_line(error)
            exits.complain(said)
            found.append(Failed(source=source, reason=said))
    _print(found, form)
    if code:
        raise typer.Exit(code)


def _print(found: list[Received | Failed], form: output.Format) -> None:
    done = [each for each in found if not isinstance(each, Failed)]
    match form:
        case output.Format.JSON:
            output.write_json(
                "receive",
                received=[_document(each) for each in done],
                failed=[each.document() for each in found if isinstance(each, Failed)],
            )
        case output.Format.CSV:
            output.write_csv([_row(each) for each in found], _RECEIVE_COLUMNS)
        case output.Format.PATHS:
            output.write_paths(dict.fromkeys(each.path for each in done))  # a copy twice is one
        case output.Format.TABLE:
            for each in done:
                state = "there already" if each.already else "intact"
                output.line(f"{each.path}: {state}")


def _document(done: Received) -> dict[str, object]:
    return {"source": str(done.source), "path": str(done.path), "already": done.already}


def _row(found: Received | Failed) -> dict[str, str]:
    if isinstance(found, Failed):
        return {"outcome": "failed", **found.document()}
    outcome = "already" if found.already else "received"
    return {"outcome": outcome, "source": str(found.source), "path": str(found.path)}


def _found(done: Shared) -> list[tuple[str, Finding]]:
    """What became of each finding, and the finding."""
    outcome = "removed" if done.removed else "there"
    return [(outcome, each) for each in done.findings] + [("kept", each) for each in done.kept]


def _show(done: Shared, found: list[tuple[str, Finding]]) -> None:
    lines = [f"{done.path}", f"{done.card}: a draft; finish it before you publish"]
    if done.left_out:
        lines.append(f"left out: {', '.join(done.left_out)}")
    output.show(*(Text(output.harmless(line)) for line in lines))
    if not found:
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("found", "where", "", "text"):
        table.add_column(heading, overflow="fold")
    most = SHOWN if terminal.is_terminal() else None
    for outcome, finding in found[:most]:
        cells = (finding.kind, finding.where, _OUTCOMES[outcome], finding.text)
        table.add_row(*(Text(output.harmless(cell)) for cell in cells))
    output.show(table)
    if most is not None and len(found) > most:
        output.line(f"... and {len(found) - most} more: --format json has them all")
