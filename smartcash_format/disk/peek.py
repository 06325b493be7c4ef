"""The least look at a checkpoint: its meta.json, and the sizes of what that lists.

What listing thousands is made of, so it takes names as strings and opens one file a checkpoint.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from typing import Final

from smartcash_format.disk.read import NotPlainFileError, kind_of
from smartcash_format.spec import layout, limits
from smartcash_format.spec.problems import Problem

_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO must answer at once, not wait for a writer
)


def meta_bytes(directory: str) -> bytes:
    """The bytes of a directory's meta.json, one more than allowed at most.

    Raises FileNotFoundError, NotPlainFileError or what else the system says.
    """
    try:
        descriptor = os.open(f"{directory}/{layout.META}", _FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EMLINK):
            raise NotPlainFileError(error.errno, "not a plain file", layout.META) from error
        raise
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise NotPlainFileError(errno.EINVAL, kind_of(facts.st_mode), layout.META)
        return _read(descriptor, min(facts.st_size, limits.META_BYTES) + 1)
    finally:
        os.close(descriptor)


def _read(descriptor: int, count: int) -> bytes:
    data = os.read(descriptor, count)
    if len(data) == count - 1:
        return data
    # Shorter than the stat said (a signal, a mount with small reads), or growing: read on.
    while more := os.read(descriptor, limits.META_BYTES + 1 - len(data)):
        data += more
    return data


def sizes_hold(directory: str, sizes: Iterable[tuple[str, int]]) -> bool:
    """Whether every listed file is a plain file of the listed size. Nothing is opened.

    The names have to be plain ones.
    """
    try:
        for name, size in sizes:
            facts = os.lstat(f"{directory}/{name}")
            if facts.st_size != size or not stat.S_ISREG(facts.st_mode):
                return False
    except OSError:
        return False
    return True


def size_problems(directory: str, sizes: Iterable[tuple[str, int]]) -> tuple[Problem, ...]:
    """The listed files that are missing, no plain files, or of another size than listed."""
    return tuple(
        problem
        for name, size in sizes
        if (problem := _size_problem(directory, name, size)) is not None
    )


def _size_problem(directory: str, name: str, size: int) -> Problem | None:
    try:
        facts = os.lstat(f"{directory}/{name}")
    except FileNotFoundError:
        return Problem(code="file-missing", where=name, message="is listed and is not there")
    if not stat.S_ISREG(facts.st_mode):
        kind = kind_of(facts.st_mode)
        return Problem(code="file-kind", where=name, message=f"is {kind}, not a plain file")
    if facts.st_size == size:
        return None
    return Problem(
        code="file-size",
        where=name,
        message=f"has {facts.st_size:,} bytes; meta.json lists {size:,}",
        found=str(facts.st_size),
        expected=str(size),
    )
