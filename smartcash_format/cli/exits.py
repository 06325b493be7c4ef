"""What the command tells its caller by its exit code, and how an error becomes one line.

0    fine
1    findings, a difference, or nothing found
2    usage
3    cannot read, or cannot write
130  stopped by Ctrl-C
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

import typer

from smartcash_format.disk.kinds import NotPlainFileError
from smartcash_format.errors import (
    CheckpointError,
    CheckpointExistsError,
    CheckpointNotFoundError,
    CheckpointWriteError,
    InsufficientSpaceError,
    InvalidCheckpointError,
    SignatureError,
)
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Problem
from smartcash_format.view import words

FINE: Final = 0
FOUND: Final = 1
USAGE: Final = 2
UNREADABLE: Final = 3
INTERRUPTED: Final = 130

_FIXES: Final[Mapping[int, str]] = MappingProxyType(
    {
        errno.ENOSPC: "free some space there and run it again",
        errno.EDQUOT: "free some of your quota and run it again",
        errno.EACCES: "check who may read and write it",
        errno.EPERM: "check who may read and write it",
        errno.EROFS: "it is mounted to be read only: name a place elsewhere",
        errno.EIO: "the storage failed: check its log, and go on from a copy",
        errno.ESTALE: "the mount lost it: mount it again",
        errno.ENOENT: "check the path",
        errno.ENOTDIR: "check the path",
        errno.EISDIR: "name a file",
        errno.ELOOP: "put the file itself there instead of a link",
        errno.EEXIST: "name another one, or remove what is there",
    }
)
# Longer than any path, so that what comes after one is still said.
_LINE: Final = 8_000


def complain(message: str) -> None:
    """One line on standard error; control characters are shown, never sent."""
    _say(f"smartcash-format: {words.harmless(message, _LINE)}")


def trace(error: BaseException) -> None:
    """Where an error came from, on standard error; what is foreign in it is shown, never obeyed."""
    import traceback  # few ask for it

    for line in "".join(traceback.format_exception(error)).splitlines():
        _say(words.harmless(line, None))


def _say(line: str) -> None:
    try:
        typer.echo(line, err=True)
    except OSError:
        # Nobody reads it (`2>&1 | head`), or there is no room: the exit code says it all the same.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


def one_line(error: BaseException) -> str:
    """What an error says, its first breach among it, how many more there are, and what to do."""
    if isinstance(error, ImportError) and error.name == "torch":
        return 'this needs torch, which is not installed: pip install "smartcash-format[torch]"'
    if isinstance(error, CheckpointNotFoundError):
        return f"{error}; {_where_to_look(error.root)}"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, CheckpointError):
        return _of_the_system(error)
    head, *breaches = str(error).splitlines() or [type(error).__name__]
    if not breaches:
        return f"{head}{_where_and_fix(error)}"
    more = f" (and {len(breaches) - 1} more)" if len(breaches) > 1 else ""
    said = f"{head}: {breaches[0].strip()}{more}"
    first = error.problems[0] if isinstance(error, InvalidCheckpointError) else None
    return f"{said} -> {first.fix}" if isinstance(first, Problem) and first.fix else said


def _where_and_fix(error: BaseException) -> str:
    """What the message of a write that failed leaves out: the directory, and what to do."""
    tells_all = isinstance(error, InsufficientSpaceError | CheckpointExistsError)
    if not isinstance(error, CheckpointWriteError) or tells_all or not fix_of(error):
        return ""
    return f"; in {error.path.parent}: {fix_of(error)}"


def fix_of(error: BaseException) -> str:
    """What to do about what the system said; "" where that is not known."""
    return _FIXES.get(getattr(error, "errno", None) or 0, "")


def usage_line(error: Any, help_line: str) -> str:
    """What is wrong with how the command was called, and what shows its help."""
    said = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    # As typer 0.26 spells what may be meant: ('(Possible options: --format)',).
    said = said.replace("('(", "(").replace(")',)", ")")
    return f"{said}; see {help_line}"


def stop(message: str, code: int) -> NoReturn:
    """Ends the command with one line and this exit code."""
    complain(message)
    raise typer.Exit(code)


@contextlib.contextmanager
def force_replaces() -> Iterator[None]:
    """Where a command that has `--force` ends because a file is there, it says so."""
    try:
        yield
    except CheckpointExistsError as error:
        stop(f"{error}; --force replaces it", UNREADABLE)


def code_of(error: CheckpointError | OSError | ValueError | ImportError) -> int:
    """The exit code of an error that reached the edge."""
    if isinstance(error.__cause__, ImportError):
        return UNREADABLE  # what would have looked is not installed
    if isinstance(error, CheckpointNotFoundError):
        # A place without what was asked for is read; one that is not there is not.
        return FOUND if error.query else UNREADABLE
    if isinstance(error, SignatureError):
        return FOUND
    return USAGE if isinstance(error, ValueError) else UNREADABLE


def _where_to_look(root: Path | None) -> str:
    # Those of os raise nothing where the system lets no one look.
    if root is not None and not os.path.isdir(root):
        return _FIXES[errno.ENOENT]
    command = "show" if root is not None and os.path.isfile(root / layout.META) else "ls"
    place = "ROOT" if root is None else shlex.quote(str(root))
    return f"smartcash-format {command} {place} shows what is there"


def _of_the_system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename is not None else ""
    if isinstance(error, NotPlainFileError):
        return f"{where}is {error.strerror}, not a plain file; put the file itself there"
    fix = fix_of(error)
    return f"{where}{error.strerror}" + (f"; {fix}" if fix else "")
