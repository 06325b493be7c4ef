"""Which documents this reader can read: looked at first, alone, before any other field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from smartcash_format.spec.problems import Problem

FORMAT: Final = "smartcash-checkpoint"
TENSORS_FORMAT: Final = "smartcash-tensors"
MAJOR: Final = 1
MINOR: Final = 0
FORMAT_VERSION: Final = f"{MAJOR}.{MINOR}"
SUPPORTED: Final = f"{MAJOR}.x"

_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A format version; `is_newer_minor` documents may carry keys that this reader ignores."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def is_newer_minor(self) -> bool:
        return self.major == MAJOR and self.minor > MINOR


def gate(
    document: object, *, where: str, format: str = FORMAT
) -> tuple[Version | None, Problem | None]:
    """The document's version, or the problem that keeps this reader from looking further."""
    if not isinstance(document, dict):
        return None, Problem(
            code="field-invalid",
            where=where,
            message="is not a JSON object",
            found=type(document).__name__,
            expected="an object",
        )
    found = document.get("format")
    if found != format:
        return None, Problem(
            code="foreign-format",
            where=f"{where}: format",
            message=f'is not "{format}": this file belongs to something else',
            found=repr(found)[:80],
            expected=f'"{format}"',
        )
    text = document.get("format_version")
    match = _VERSION.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match[1]) < MAJOR:
        return None, Problem(
            code="field-invalid",
            where=f"{where}: format_version",
            message="is no version of this format",
            found=repr(text)[:80],
            expected=f'"{FORMAT_VERSION}"',
        )
    version = Version(int(match[1]), int(match[2]))
    if version.major != MAJOR:
        return None, newer_version(str(version), where=where)
    return version, None


def newer_version(found: str, *, where: str) -> Problem:
    """The problem of a document whose major version this reader does not know."""
    return Problem(
        code="newer-version",
        where=f"{where}: format_version",
        message=f"format version {found} is newer than this reader ({SUPPORTED})",
        found=found,
        expected=SUPPORTED,
        fix="upgrade smartcash-format",
    )
