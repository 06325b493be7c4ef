"""The least look at a checkpoint: its meta.json, and the sizes of what that lists.

What listing thousands is made of, so it takes names as strings and opens one file a checkpoint.
`directory` is a checkpoint's directory, and `root`, where it is given, a descriptor that it is
relative to: the system then walks two names instead of the whole path, six times a checkpoint.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from smartcash_format.disk.kinds import NotPlainFileError, kind_of
from smartcash_format.spec import layout, limits
from smartcash_format.spec.refusal import too_large

_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO must answer at once, not wait for a writer
)


@contextlib.contextmanager
def opened_directory(path: str) -> Iterator[int | None]:
    """A descriptor of a directory; None where the system opens nothing relative to one.

    Raises FileNotFoundError, or what else the system says.
    """
    if os.open not in os.supports_dir_fd or os.stat not in os.supports_dir_fd:
        yield None
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def usual_meta_bytes(directories: Iterable[str], root: int | None = None) -> list[bytes]:
    """The bytes of each directory's meta.json; none where `meta_bytes` has to read it or say why.

    Without asking what it is, which takes as long as the reading: only a plain file, or a device,
    has an end to go to. No byte is read of one that is larger than allowed. What does not hold its
    own digest has to be read by `meta_bytes` too: it may be a device's, or a part of what is there
    (a mount with small reads).
    """
    if not hasattr(os, "pread"):
        return [b"" for _ in directories]
    found = []
    for directory in directories:
        data = b""
        try:
            descriptor = os.open(f"{directory}/{layout.META}", _FLAGS, dir_fd=root)
            try:
                size = os.lseek(descriptor, 0, os.SEEK_END)
                if size <= limits.META_BYTES:
                    data = os.pread(descriptor, size, 0)
            finally:
                os.close(descriptor)
        except OSError:
            pass
        found.append(data)
    return found


def meta_bytes(directory: str, root: int | None = None) -> bytes:
    """The bytes of a directory's meta.json, one more than allowed where it grows meanwhile.

    Raises Refused before it reads a byte where it is larger than allowed; FileNotFoundError,
    NotPlainFileError or what else the system says.
    """
    try:
        descriptor = os.open(f"{directory}/{layout.META}", _FLAGS, dir_fd=root)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EMLINK):
            raise NotPlainFileError(error.errno, "not a plain file", layout.META) from error
        raise
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise NotPlainFileError(errno.EINVAL, kind_of(facts.st_mode), layout.META)
        if facts.st_size > limits.META_BYTES:
            raise too_large(facts.st_size, limits.META_BYTES)
        return _read(descriptor, facts.st_size + 1)
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


class Listed(Protocol):
    """What a meta.json lists: plain names, and a size for each."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def sizes(self) -> Sequence[int]: ...


def sizes_hold(
    directories: Iterable[str], listed: Iterable[Listed | None], root: int | None = None
) -> list[bool]:
    """Whether all that is listed for each directory are plain files of these sizes.

    False where nothing is given for it. Nothing is opened.
    """
    found = []
    for directory, files in zip(directories, listed, strict=True):
        holds = False
        if files is not None:
            try:
                for name, size in zip(files.names, files.sizes, strict=True):
                    facts = os.lstat(f"{directory}/{name}", dir_fd=root)
                    if facts.st_size != size or not stat.S_ISREG(facts.st_mode):
                        break
                else:
                    holds = True
            except OSError:
                pass
        found.append(holds)
    return found


def sizes(directory: str, names: Iterable[str]) -> tuple[dict[str, int], dict[str, str]]:
    """The sizes of those names that are plain files, and what stands under the others, if anything.

    The names have to be plain ones. All is of one directory, whatever it is called meanwhile: who
    prunes sets a checkpoint apart, and may put it back. Raises FileNotFoundError where none is.
    """
    found: dict[str, int] = {}
    odd: dict[str, str] = {}
    with opened_directory(directory) as descriptor:
        for name in names:
            path = f"{directory}/{name}" if descriptor is None else name
            try:
                facts = os.lstat(path, dir_fd=descriptor)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(facts.st_mode):
                found[name] = facts.st_size
            else:
                odd[name] = kind_of(facts.st_mode)
    return found, odd


def is_unmarked(directory: str) -> bool:
    """Whether a directory is there, and no meta.json is in it; False as well where it went."""
    try:
        with opened_directory(directory) as descriptor:
            marked = layout.META if descriptor is not None else f"{directory}/{layout.META}"
            try:
                os.stat(marked, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                return os.path.isdir(directory)  # else it was set apart, and emptied there
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return os.path.isdir(directory)
