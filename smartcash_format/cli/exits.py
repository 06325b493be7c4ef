"""What the command tells its caller by its exit code, and how an error becomes one line.

0  fine
1  findings, a difference, or nothing found
2  usage
3  cannot read
"""

from __future__ import annotations

import os
import sys
from typing import Final, NoReturn

import typer

from smartcash_format.errors import CheckpointError, CheckpointNotFoundError, SignatureError
from smartcash_format.view import words

FINE: Final = 0
FOUND: Final = 1
USAGE: Final = 2
UNREADABLE: Final = 3


def complain(message: str) -> None:
    """One line on standard error; control characters are shown, never sent."""
    typer.echo(f"smartcash-format: {words.harmless(message, 2_000)}", err=True)


def one_line(error: BaseException) -> str:
    """What an error says, its first breach among it, and how many more there are."""
    if isinstance(error, ImportError) and error.name == "torch":
        return 'this needs torch, which is not installed: pip install "smartcash-format[torch]"'
    head, *breaches = str(error).splitlines() or [type(error).__name__]
    if not breaches:
        return head
    more = f" (and {len(breaches) - 1} more)" if len(breaches) > 1 else ""
    return f"{head}: {breaches[0].strip()}{more}"


def stop(message: str, code: int) -> NoReturn:
    """Ends the command with one line and this exit code."""
    complain(message)
    raise typer.Exit(code)


def code_of(error: CheckpointError | OSError | ValueError | ImportError) -> int:
    """The exit code of an error that reached the edge."""
    if isinstance(error.__cause__, ImportError):
        return UNREADABLE  # what would have looked is not installed
    if isinstance(error, CheckpointNotFoundError | SignatureError):
        return FOUND
    return USAGE if isinstance(error, ValueError) else UNREADABLE


def leave_quietly() -> NoReturn:
    """Ends the command when the reader of its output has gone: `ls | head` is no error."""
    # Python flushes standard output once more at exit and would complain there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(FINE)
