"""Every error this package raises on purpose, divided by what the caller does next.

CheckpointError                        the root; nothing else is raised on purpose
├── CheckpointNotFoundError            also FileNotFoundError: nothing there, or nothing matched
├── CheckpointExistsError              also FileExistsError: the path to save to is taken
├── UnsupportedVersionError            the file is newer than this reader
├── InvalidCheckpointError             incomplete, damaged, against the format; breaches listed
├── UnsafeCheckpointError              a torch file asks for more than the allow-list
├── StateMismatchError                 does not fit the live objects; nothing was changed
├── SignatureError                     not signed by whom was asked for; nothing was loaded
├── UnsavableStateError                live state that could not be loaded again
└── CheckpointWriteError               also OSError, with its errno: the previous ones are untouched
    └── InsufficientSpaceError         before the first byte

Messages carry no raw control characters from a file and name files relative to the checkpoint.
While reading, operating-system errors (permissions, a vanished mount) pass through untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

# Longer lists stop being read; the attribute `problems` always holds all of them.
PROBLEMS_SHOWN = 20


class Breach(Protocol):
    """What an error needs of a problem: spec.problems.Problem has this shape."""

    @property
    def code(self) -> str: ...

    @property
    def where(self) -> str: ...

    @property
    def message(self) -> str: ...


class CheckpointError(Exception):
    """The root of everything that this package raises on purpose."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """Nothing is there, or nothing matched what was asked for.

    `root` is the directory looked in, `query` what was asked for in it, empty where a path is not
    there, `nearest` what comes closest.
    """

    def __init__(
        self,
        message: str,
        *,
        root: Path | None = None,
        query: str = "",
        nearest: str = "",
    ) -> None:
        super().__init__(message)
        self.root = root
        self.query = query
        self.nearest = nearest


class CheckpointExistsError(CheckpointError, FileExistsError):
    """The path to save to is taken; nothing was written."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


class UnsupportedVersionError(CheckpointError):
    """The checkpoint is newer than this reader: upgrade the package."""

    def __init__(self, message: str, *, found: str, supported: str) -> None:
        super().__init__(message)
        self.found = found
        self.supported = supported


def _listed(head: str, problems: Sequence[Breach], hint: str = "") -> str:
    lines = [head]
    lines += [f"  {p.where}: {p.message} [{p.code}]" for p in problems[:PROBLEMS_SHOWN]]
    if len(problems) > PROBLEMS_SHOWN:
        lines.append(f"  ... and {len(problems) - PROBLEMS_SHOWN} more in the attribute `problems`")
    if hint:
        lines.append(hint)
    return "\n".join(lines)


class InvalidCheckpointError(CheckpointError):
    """The checkpoint is incomplete, damaged or against the format; `problems` has every breach."""

    def __init__(self, message: str, *, path: Path, problems: Sequence[Breach]) -> None:
        super().__init__(_listed(message, problems))
        self.path = path
        self.problems = tuple(problems)


class UnsafeCheckpointError(CheckpointError):
    """A torch file asks for more than the allow-list; it was not opened by torch."""

    def __init__(self, message: str, *, path: Path, file: str, first_refused: str) -> None:
        super().__init__(message)
        self.path = path
        self.file = file
        self.first_refused = first_refused


class SignatureError(CheckpointError):
    """A checkpoint is not signed by whom was asked for, or could not be signed.

    `signature` is the file that was looked at, where it is about one.
    """

    def __init__(self, message: str, *, path: Path, signature: Path | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.signature = signature


class StateMismatchError(CheckpointError):
    """The checkpoint does not fit the live objects; nothing was changed.

    `problems` has every mismatch, `hint` the likely cause where there is one.
    """

    def __init__(self, message: str, *, problems: Sequence[Breach], hint: str = "") -> None:
        super().__init__(_listed(message, problems, hint))
        self.problems = tuple(problems)
        self.hint = hint


class UnsavableStateError(CheckpointError):
    """Live state that could not be loaded again; nothing was written.

    `where` is the path of the value inside the state, `kind` its type, `hint` what to do instead.
    """

    def __init__(self, message: str, *, where: str, kind: str, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.where = where
        self.kind = kind
        self.hint = hint


class CheckpointWriteError(CheckpointError, OSError):
    """Writing failed; every earlier checkpoint is untouched. `errno` is the system's."""

    def __init__(self, message: str, *, path: Path, errno: int | None = None) -> None:
        # Given one argument OSError leaves errno unset; it is assigned below.
        super().__init__(message)
        self.path = path
        self.errno = errno


class InsufficientSpaceError(CheckpointWriteError):
    """The target has less free space than the save needs; nothing was written."""

    def __init__(
        self,
        message: str,
        *,
        path: Path,
        errno: int,
        needed_bytes: int,
        free_bytes: int,
    ) -> None:
        super().__init__(message, path=path, errno=errno)
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes
