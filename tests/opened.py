"""Which files Python opens, by whatever means it has: heard by an audit hook."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_listening: list[list[str]] = []
_installed = False


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """The paths that were opened inside the block; what goes by a descriptor has its name alone."""
    global _installed
    if not _installed:
        # Not before it is asked for, and once: a hook stays for ever, and where Python code listens
        # Python 3.11 may refuse to trace one of two threads that start at the same time (gh-98257).
        sys.addaudithook(_heard)
        _installed = True
    found: list[str] = []
    _listening.append(found)
    try:
        yield found
    finally:
        _listening[:] = [each for each in _listening if each is not found]


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if _listening and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        for found in _listening:
            found.append(os.fsdecode(arguments[0]))
