"""One checkpoint, opened once: the file that is checked is the file that is read.

Every file is opened inside the directory's own descriptor, without following links, and only once;
its bytes are mapped, so that what was hashed is what is parsed. Only meta.json is read on opening.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, cast

from smartcash_format.errors import (
    CheckpointNotFoundError,
    InvalidCheckpointError,
    UnsupportedVersionError,
)
from smartcash_format.spec import layout, limits
from smartcash_format.spec.meta import Meta, parse_meta
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.version import SUPPORTED

_PICKLE_SUFFIXES: Final = frozenset({".pt", ".pth", ".ckpt", ".pkl", ".bin"})
_READ_ONLY: Final = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO must answer at once, not wait for a writer
)
# Names are opened relative to a descriptor of their directory, where the system can.
_RELATIVE: Final = os.open in os.supports_dir_fd
# Read where it is said, without moving a position that all readers of a descriptor share.
_POSITIONED: Final = hasattr(os, "pread")
_KINDS: Final[Mapping[int, str]] = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotPlainFileError(OSError):
    """What stands under a listed name is no plain file."""


class Opened:
    """A checkpoint whose meta is read; its parts are opened when first asked for, and only once.

    Buffers are valid until the block of `open_checkpoint` ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._directory = _Directory(path)
        self._descriptors: dict[str, int] = {}
        self._buffers: dict[str, memoryview] = {}
        self._mapped: list[mmap.mmap] = []
        self.meta_bytes = b""
        self.meta: Meta

    def size(self, name: str) -> int:
        """The file's size in bytes. Raises FileNotFoundError, NotPlainFileError or OSError."""
        return self.facts(name).st_size

    def facts(self, name: str) -> os.stat_result:
        """What the system knows of the file that is read. Raises as `size`."""
        return os.fstat(self._descriptor(name))

    def sync(self, name: str) -> None:
        """Waits until what is read is on the disk; raises OSError when it cannot be known."""
        os.fsync(self._descriptor(name))

    def listed_size(self, name: str) -> int:
        """The same by a stat, without opening the file."""
        facts = self._directory.stat(name)
        if not stat.S_ISREG(facts.st_mode):
            raise NotPlainFileError(errno.EINVAL, kind_of(facts.st_mode), name)
        return facts.st_size

    def names(self) -> list[str]:
        """Every name in the directory."""
        return self._directory.names()

    def read(self, name: str, max_bytes: int) -> bytes:
        """At most `max_bytes` + 1 bytes of a small file: one more tells that it is too large."""
        return self.raw(name).read(min(self.size(name), max_bytes) + 1)

    def raw(self, name: str) -> BinaryIO:
        """A stream that reads from the file itself and not a byte ahead: for headers."""
        return cast(BinaryIO, _DescriptorStream(self._descriptor(name)))

    def buffer(self, name: str) -> memoryview:
        """All bytes of a file, mapped, or read where the mount cannot map."""
        found = self._buffers.get(name)
        if found is None:
            found = self._buffers[name] = self._map(name)
        return found

    def close(self) -> None:
        """Releases what is mapped and open; a buffer that somebody still holds stays mapped."""
        self._buffers.clear()
        for mapped in self._mapped:
            try:
                mapped.close()
            except BufferError:
                pass  # unmapped when the last view goes
        self._mapped.clear()
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        self._directory.close()

    def __enter__(self) -> Opened:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _descriptor(self, name: str) -> int:
        descriptor = self._descriptors.get(name)
        if descriptor is None:
            descriptor = self._descriptors[name] = self._directory.open(name)
        return descriptor

    def _map(self, name: str) -> memoryview:
        descriptor = self._descriptor(name)
        size = os.fstat(descriptor).st_size
        if size == 0:
            return memoryview(b"")
        try:
            # Private and writable: a user's hook that changes a tensor in place while it is loaded
            # changes its own page; on a read-only mapping it would end the process.
            mapped = mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
        except OSError:
            return memoryview(_read_all(descriptor, size))
        self._mapped.append(mapped)
        return memoryview(mapped)


class _Directory:
    """Names opened relative to one directory's descriptor, where the system can."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        if _RELATIVE:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))

    def open(self, name: str) -> int:
        try:
            descriptor = os.open(self._name(name), _READ_ONLY, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EMLINK):
                kind = kind_of(self.stat(name).st_mode)
                raise NotPlainFileError(error.errno, kind, name) from error
            raise
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            raise NotPlainFileError(errno.EINVAL, kind_of(mode), name)
        return descriptor

    def stat(self, name: str) -> os.stat_result:
        return os.stat(self._name(name), dir_fd=self._descriptor, follow_symlinks=False)

    def names(self) -> list[str]:
        return os.listdir(self._path if self._descriptor is None else self._descriptor)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _name(self, name: str) -> str:
        return name if self._descriptor is not None else str(self._path / name)


def kind_of(mode: int) -> str:
    """What a file of this mode is, for a sentence."""
    return _KINDS.get(stat.S_IFMT(mode), "a special file")


def open_checkpoint(path: str | os.PathLike[str]) -> Opened:
    """An opened checkpoint whose meta is valid; close it, or use it in a `with` block.

    Raises CheckpointNotFoundError, UnsupportedVersionError, or InvalidCheckpointError with all that
    is wrong with meta.json. The other parts are not looked at.
    """
    opened, problems = try_open(path)
    if opened is not None:
        return opened
    where = Path(path)
    for problem in problems:
        if problem.code == "newer-version":
            raise UnsupportedVersionError(
                f"{where.name}: {problem.message}; {problem.fix}",
                found=problem.found or "",
                supported=SUPPORTED,
            )
    if not os.path.lexists(where):
        raise CheckpointNotFoundError(f"{where}: no such checkpoint", root=where.parent)
    raise InvalidCheckpointError(
        f"{where.name} is no valid checkpoint", path=where, problems=problems
    )


def read_meta(path: str | os.PathLike[str]) -> Meta:
    """What a checkpoint says about itself; only its meta.json is opened.

    Raises as `open_checkpoint` does.
    """
    with open_checkpoint(path) as opened:
        return opened.meta


def try_open(path: str | os.PathLike[str]) -> tuple[Opened | None, tuple[Problem, ...]]:
    """An opened checkpoint and no problems, or None and why there is none.

    System errors other than absence (permissions, a vanished mount) pass through.
    """
    where = Path(path)
    if not where.is_dir():
        return None, (_no_directory(where),)
    try:
        opened = Opened(where)
    except (FileNotFoundError, NotADirectoryError):
        return None, (_no_directory(where),)  # it was removed this very moment
    try:
        data = opened.read(layout.META, limits.META_BYTES)
    except FileNotFoundError:
        problem = Problem(
            code="not-a-checkpoint",
            where=".",
            message="has no meta.json: not a checkpoint, or one whose copy is not complete",
        )
        opened.close()
        return None, (problem,)
    except NotPlainFileError as error:
        opened.close()
        kind = error.strerror
        message = f"is {kind}, not a plain file"
        return None, (Problem(code="file-kind", where=layout.META, message=message, found=kind),)
    except BaseException:
        opened.close()
        raise
    meta, problems = parse_meta(data)
    if meta is None:
        opened.close()
        return None, problems
    opened.meta, opened.meta_bytes = meta, data
    return opened, ()


def _no_directory(path: Path) -> Problem:
    if not os.path.lexists(path):
        message, fix = "does not exist", ""
        if path.suffix.lower() in _PICKLE_SUFFIXES:
            message, fix = f"does not exist; {_pickle_sentence(path)}", ""
    elif path.suffix.lower() in _PICKLE_SUFFIXES:
        message = f"is a file, not a checkpoint directory; {_pickle_sentence(path)}"
        fix = f"smartcash-format convert {shlex.quote(str(path))} -o ROOT"
    else:
        message, fix = "is a file; a checkpoint is a directory with a meta.json", ""
    return Problem(code="not-a-checkpoint", where=path.name, message=message, fix=fix)


def _pickle_sentence(path: Path) -> str:
    return (
        f"{path.suffix} files are pickles, which can run code when loaded: convert one with "
        f"`smartcash-format convert {shlex.quote(str(path))} -o ROOT`"
    )


def _read_all(descriptor: int, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    while done < size:
        count = os.preadv(descriptor, [view[done:]], done)
        if count == 0:
            raise OSError(errno.EIO, "the file became shorter while it was read")
        done += count
    return data


def _read_at(descriptor: int, count: int, position: int) -> bytes:
    if _POSITIONED:
        return os.pread(descriptor, count, position)
    os.lseek(descriptor, position, os.SEEK_SET)
    return os.read(descriptor, count)


class _DescriptorStream(io.RawIOBase):
    """Reads a descriptor at its own position: the descriptor itself stays where it is."""

    def __init__(self, descriptor: int) -> None:
        self._file = descriptor
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        if count < 0:
            count = max(0, os.fstat(self._file).st_size - self._position)
        # A torch file has a header for each of its thousands of tensors: what is there is called.
        data = (
            os.pread(self._file, count, self._position)
            if _POSITIONED
            else _read_at(self._file, count, self._position)
        )
        self._position += len(data)
        return data if len(data) == count or not data else data + self._rest(count - len(data))

    def _rest(self, count: int) -> bytes:
        """What a signal or a mount with small reads left out, up to the end."""
        data = bytearray()
        while len(data) < count:
            more = _read_at(self._file, count - len(data), self._position)
            if not more:
                break
            self._position += len(more)
            data += more
        return bytes(data)

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        if hasattr(os, "preadv"):
            count = os.preadv(self._file, [target], self._position)
        else:
            data = _read_at(self._file, len(target), self._position)
            target[: len(data)] = data
            count = len(data)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            end = whence == io.SEEK_END
            offset = max(0, offset + (os.fstat(self._file).st_size if end else self._position))
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position
