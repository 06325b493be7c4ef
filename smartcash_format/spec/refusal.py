"""How a reader stops at the first thing that a file may not hold, and says it safely."""

from __future__ import annotations

from typing import Final

from smartcash_format.spec.problems import Code, Problem

# Enough to recognise a value by; files hold strings of megabytes.
_SHOWN: Final = 80


class Refused(Exception):
    """Raised and caught among those who read files: who asks them gets findings as values."""

    def __init__(
        self,
        code: Code,
        message: str,
        part: str = "",
        *,
        found: str | None = None,
        expected: str | None = None,
        fix: str = "",
    ) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.part = part
        self.found = found
        self.expected = expected
        self.fix = fix

    def problem(self, where: str) -> Problem:
        """The finding, in the part of the file that it is about; `.field` is a part of an entry."""
        between = "" if not self.part or self.part.startswith(".") else ": "
        return Problem(
            code=self.code,
            where=f"{where}{between}{self.part}",
            message=self.message,
            found=self.found,
            expected=self.expected,
            fix=self.fix,
        )


def too_large(size_bytes: int, max_bytes: int) -> Refused:
    """Why a document of this size is not looked into, to be raised before it is read."""
    return Refused(
        "json-too-large",
        f"has {size_bytes:,} bytes; at most {max_bytes:,} are allowed",
        found=f"{size_bytes:,} bytes",
    )


def shown(value: object) -> str:
    """A value out of a file as a message may have it: short and without control characters."""
    if isinstance(value, bytes):
        value = value[:_SHOWN].decode("utf-8", "replace")
    if isinstance(value, str):
        return repr(value[:_SHOWN])
    return repr(value)[:_SHOWN] if isinstance(value, int | float) else f"a {type(value).__name__}"
