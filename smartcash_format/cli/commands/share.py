"""`share` and `receive`: a checkpoint for others, and one from others."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from smartcash_format.cli import asking, exits, output
from smartcash_format.cli.one_by_one import one_by_one
from smartcash_format.errors import CheckpointError
from smartcash_format.integrations import share as sharing
from smartcash_format.integrations.share import Received, Shared
from smartcash_format.view import terminal

# On a terminal a longer table stops being read.
SHOWN: Final = 100
SHARE_EXAMPLES = """Examples:

  smartcash-format share CHECKPOINT -o to_publish

  smartcash-format share CHECKPOINT -o to_publish --clean

Exit code 1 says that something was found and is still there."""
RECEIVE_EXAMPLES = """Examples:

  smartcash-format receive downloaded -o runs/received

  smartcash-format receive downloaded -o runs/received --signed-by team.pub

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
    form: Annotated[output.Document, asking.FORM] = output.Document.TABLE,
) -> None:
    """Make a checkpoint for others.

    Its weights, its metadata, and a model card to finish.
    """
    done = sharing.share(checkpoint, directory, clean=clean, resume_state=resume_state)
    if form is output.Document.JSON:
        output.write_json(
            "share",
            path=str(done.path),
            card=str(done.card),
            findings=[asdict(finding) for finding in done.findings],
            removed=done.removed,
            kept=[asdict(finding) for finding in done.kept],
            left_out=list(done.left_out),
        )
    else:
        _show(done)
    if done.kept or (done.findings and not done.removed):
        raise typer.Exit(exits.FOUND)


def receive(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A checkpoint, or a directory of them.")
    ],
    root: Annotated[Path, typer.Option("--output", "-o", metavar="ROOT", help="Where they go.")],
    signed_by: asking.SignedBy = None,
    form: Annotated[output.Document, asking.FORM] = output.Document.TABLE,
) -> None:
    """Take in checkpoints of others.

    Each is there when its last byte is validated.
    """
    signer = asking.parse_signed_by(signed_by)
    done: list[Received] = []
    code = exits.FINE
    for source in one_by_one("receiving checkpoints", sharing.checkpoints_in(directory)):
        try:
            done += sharing.receive(source, root, signed_by=signer)
        # One that is not what it says leaves the others.
        except (CheckpointError, OSError) as error:
            code = max(code, exits.code_of(error))
            exits.complain(exits.one_line(error))
    if form is output.Document.JSON:
        output.write_json("receive", received=[_document(each) for each in done])
    else:
        for each in done:
            state = "there already" if each.already else "intact"
            output.line(f"{each.path}: {state}")
    if code:
        raise typer.Exit(code)


def _document(done: Received) -> dict[str, object]:
    return {"source": str(done.source), "path": str(done.path), "already": done.already}


def _show(done: Shared) -> None:
    lines = [f"{done.path}", f"{done.card}: a draft; finish it before you publish"]
    if done.left_out:
        lines.append(f"left out: {', '.join(done.left_out)}")
    output.show(*(Text(output.harmless(line)) for line in lines))
    if not done.findings and not done.kept:
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("found", "where", "", "text"):
        table.add_column(heading, overflow="fold")
    state = "removed" if done.removed else "still there: --clean removes it"
    rows = [(finding, state) for finding in done.findings]
    rows += [(finding, "stays: part of the state") for finding in done.kept]
    most = SHOWN if terminal.is_terminal() else None
    for finding, what in rows[:most]:
        cells = (finding.kind, finding.where, what, finding.text)
        table.add_row(*(Text(output.harmless(cell)) for cell in cells))
    output.show(table)
    if most is not None and len(rows) > most:
        output.line(f"... and {len(rows) - most} more: --format json has them all")
