"""A single file for other programs: whole under its name, or not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from smartcash_format.disk.durable import home_problem, make_root, sync_directory
from smartcash_format.disk.leftovers import discard
from smartcash_format.disk.notes import place_of, set_aside
from smartcash_format.disk.owner import this_process
from smartcash_format.disk.publish import require_root, tidy, write_error
from smartcash_format.errors import (
    CheckpointError,
    CheckpointExistsError,
    CheckpointWriteError,
)
from smartcash_format.spec import layout


@contextmanager
def whole_file(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """A stream whose bytes are the file at `path` once the block has ended, and durable.

    They are written beside it under a hidden name; when the block raises nothing is left, and what
    one left that was killed goes with the next. The stream can be read and its name opened before
    that. A file that is there is only replaced with `overwrite`. Raises CheckpointExistsError,
    CheckpointWriteError.
    """
    require_free(path, overwrite=overwrite)
    try:
        if problem := home_problem(path):
            raise FileNotFoundError(errno.ENOENT, problem, str(path))
        path = place_of(path)
    except OSError as error:
        raise write_error(error, path, "was not written") from error
    require_place(path)
    aside = path.with_name(layout.STAGING_PREFIX + this_process().name())
    try:
        make_root(path.parent)
        with open(aside, "xb+") as stream:
            # Gigabytes of an export that was killed: no save would come by here and clear them.
            tidy(path.parent, now=os.fstat(stream.fileno()).st_mtime)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if overwrite:
            os.replace(aside, path)
        else:
            set_aside(aside, path)
        sync_directory(path.parent)
    except FileExistsError as error:
        raise _exists(path) from error
    except CheckpointError:
        raise
    except OSError as error:
        raise write_error(error, path, "was not written") from error
    finally:
        discard(aside)


def require_place(path: Path) -> None:
    """Raises CheckpointWriteError where a file of this path would break or replace one of ours.

    A checkpoint is never changed and a root's history is only appended to; below a Drive that is
    not mounted a file goes with the session.
    """
    require_root(path, "written")
    if path.name == layout.HISTORY:
        raise CheckpointWriteError(
            f"{path.name} was not written: a root's history has this name; name another file",
            path=path,
            errno=errno.EINVAL,  # not that it exists: nobody is to remove it
        )


def require_free(path: Path, *, overwrite: bool) -> None:
    """Raises CheckpointExistsError where something is there that nobody asked to replace."""
    if os.path.lexists(path) and not overwrite:
        raise _exists(path)


def _exists(path: Path) -> CheckpointExistsError:
    return CheckpointExistsError(f"{path} exists already; nothing was written", path=path)
