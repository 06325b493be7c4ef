"""One checkpoint, opened once: the file that is checked is the file that is read.

Every file is opened inside the directory's own descriptor, without following links, and only once.
Only meta.json is read on opening. Where mapping is safe (`mounts`), what is hashed is read through
that descriptor and what is parsed is read or mapped through it too: the page cache gives the same
bytes to both, unless somebody writes into the file meanwhile. Elsewhere a file that was hashed is
held in memory, and whatever asks for its bytes afterwards gets those.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import threading
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, cast

from smartcash_format.disk.absent import no_directory, no_meta
from smartcash_format.disk.kinds import NotPlainFileError, kind_of
from smartcash_format.disk.lending import LENT_BYTES, lent_pieces
from smartcash_format.disk.mounts import file_system, is_mapped
from smartcash_format.disk.positioned import (
    DescriptorStream,
    Parsed,
    read_chunks,
    read_into,
    read_scattered,
)
from smartcash_format.errors import (
    CheckpointNotFoundError,
    InvalidCheckpointError,
    UnsupportedVersionError,
)
from smartcash_format.spec import layout, limits
from smartcash_format.spec.meta import Meta, parse_meta
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.refusal import Refused, too_large
from smartcash_format.spec.version import SUPPORTED

_READ_ONLY: Final = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO must answer at once, not wait for a writer
)
# Names are opened relative to a descriptor of their directory, where the system can.
_RELATIVE: Final = os.open in os.supports_dir_fd


class Opened:
    """A checkpoint whose meta is read; its parts are opened when first asked for, and only once.

    Buffers are valid until the block of `open_checkpoint` ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._directory = _Directory(path)
        self._descriptors: dict[str, int] = {}
        # A file is looked at while another thread hashes it: both read the one that is open.
        self._opening = threading.Lock()
        self._buffers: dict[str, memoryview] = {}
        self._mapped: dict[str, mmap.mmap] = {}
        self._devices: dict[int, bool] = {}
        self._is_holding = False
        self._parsed: dict[str, Parsed] | None = None
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
            raise NotPlainFileError(errno.EINVAL, kind_of(facts.st_mode), str(self.path / name))
        return facts.st_size

    def names(self) -> list[str]:
        """Every name in the directory."""
        return self._directory.names()

    def read(self, name: str, max_bytes: int) -> bytes:
        """The bytes of a small file; one more than allowed where it grows meanwhile.

        Raises Refused before it reads a byte where the file is larger, and else as `size`.
        """
        if (size_bytes := self.size(name)) > max_bytes:
            raise too_large(size_bytes, max_bytes)
        return self.raw(name).read(size_bytes + 1)

    def raw(self, name: str) -> BinaryIO:
        """A stream that reads from the file itself and not a byte ahead: for headers."""
        parsed = None if self._parsed is None else self._parsed.setdefault(name, [])
        return cast(BinaryIO, DescriptorStream(self._descriptor(name), parsed))

    def remember(self) -> None:
        """From now on `parsed` knows what `read` and `raw` gave, to be compared."""
        self._parsed = {}

    def parsed(self, name: str) -> Parsed:
        """The positions of a file that were read as data, and the bytes that were there."""
        return [] if self._parsed is None else self._parsed.get(name, [])

    def hold(self) -> None:
        """From now on nothing is mapped: what is hashed of a file is the memory that is used."""
        self._is_holding = True

    def buffer(self, name: str) -> memoryview:
        """All bytes of a file, mapped, or read where that is not done."""
        found = self._buffers.get(name)
        if found is None and (found := self._map(name)) is None:
            for _ in self.chunks(name):
                pass
            found = self._buffers[name]
        return found

    def chunks(self, name: str, *, threads: int = 1) -> Iterator[memoryview]:
        """All bytes of a file in order; a piece is valid until the next one.

        They are read or lent, so that a bad sector is an OSError: in a bare mapping it would end
        the process. Where files are not mapped, `buffer` and `held` give these very bytes then.
        """
        if (held := self.held(name)) is not None:
            yield held
            return
        if self._map(name) is not None:
            yield from self.pieces(name, threads=threads)
            return
        descriptor = self._descriptor(name)
        size_bytes = os.fstat(descriptor).st_size
        into = memoryview(bytearray(size_bytes))
        yield from read_chunks(descriptor, size_bytes, into=into, threads=threads)
        self._buffers[name] = into

    def pieces(
        self, name: str, *, threads: int = 1, lent_bytes: int = LENT_BYTES
    ) -> Generator[memoryview, None, None]:
        """The same, for who only looks: nothing is held afterwards."""
        if (held := self.held(name)) is not None:
            yield held
            return
        descriptor = self._descriptor(name)
        facts = os.fstat(descriptor)
        done = 0
        if self._is_mapped(facts.st_dev):
            for piece in lent_pieces(descriptor, facts.st_size, lent_bytes):
                yield piece
                done += len(piece)
        yield from read_chunks(descriptor, facts.st_size, first=done, threads=threads)

    def scattered(
        self, name: str, places: Iterable[tuple[int, memoryview]]
    ) -> Iterator[memoryview]:
        """The same, read into the memory of these places; between them nothing is held."""
        descriptor = self._descriptor(name)
        yield from read_scattered(descriptor, os.fstat(descriptor).st_size, places)

    def held(self, name: str) -> memoryview | None:
        """The bytes of a file that are in memory of this process, once they were read as a whole.

        They are nobody else's: they may be given away, and outlive the block.
        """
        return None if name in self._mapped else self._buffers.get(name)

    def release(self, name: str) -> None:
        """Gives back what is held or mapped of a file, as far as nobody else uses it."""
        self._buffers.pop(name, None)
        if (mapped := self._mapped.pop(name, None)) is not None:
            _unmap(mapped)

    def read_into(self, name: str, target: memoryview, position: int) -> None:
        """Fills `target` with what the file has from this position. Raises OSError."""
        held = self.held(name)
        if held is None:
            read_into(self._descriptor(name), target, position)
        else:
            target[:] = held[position : position + len(target)]

    def close(self) -> None:
        """Releases what is mapped and open; a buffer that somebody still holds stays mapped."""
        for name in tuple(self._buffers):
            self.release(name)
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
        with self._opening:
            descriptor = self._descriptors.get(name)
            if descriptor is None:
                descriptor = self._descriptors[name] = self._directory.open(name)
            return descriptor

    def _map(self, name: str) -> memoryview | None:
        """The mapped file, which counts as such from now on; None where it is not mapped."""
        if name in self._buffers:
            return self._buffers[name] if name in self._mapped else None
        descriptor = self._descriptor(name)
        facts = os.fstat(descriptor)
        if self._is_holding or facts.st_size == 0 or not self._is_mapped(facts.st_dev):
            return None
        try:
            # Private and writable: a user's hook that changes a tensor in place while it is loaded
            # changes its own page; on a read-only mapping it would end the process.
            mapped = mmap.mmap(descriptor, facts.st_size, access=mmap.ACCESS_COPY)
        except OSError:
            return None
        self._mapped[name] = mapped
        self._buffers[name] = memoryview(mapped)
        return self._buffers[name]

    def _is_mapped(self, device: int) -> bool:
        if device not in self._devices:
            self._devices[device] = is_mapped(file_system(device))
        return self._devices[device]


def _unmap(mapped: mmap.mmap) -> None:
    with contextlib.suppress(BufferError):  # it is unmapped when the last view goes
        mapped.close()


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
            error.filename = str(self._path / name)  # of which checkpoint
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EMLINK):
                kind = kind_of(self.stat(name).st_mode)
                raise NotPlainFileError(error.errno, kind, error.filename) from error
            raise
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            raise NotPlainFileError(errno.EINVAL, kind_of(mode), str(self._path / name))
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
                f"{where.name or where}: {problem.message}; {problem.fix}",
                found=problem.found or "",
                supported=SUPPORTED,
            )
    if not os.path.lexists(where):
        raise CheckpointNotFoundError(f"{where}: no such checkpoint", root=where.parent)
    raise InvalidCheckpointError(
        f"{where.name or where} is no valid checkpoint", path=where, problems=problems
    )


def read_meta(path: str | os.PathLike[str]) -> Meta:
    """What a checkpoint says about itself; only its meta.json is opened.

    Raises as `open_checkpoint` does.
    """
    with open_checkpoint(path) as opened:
        return opened.meta


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether a directory is a checkpoint, by its meta.json alone. Raises nothing."""
    if not os.path.lexists(os.path.join(path, layout.META)):
        return False
    try:
        opened, _ = try_open(path)
    except OSError:
        return False
    if opened is not None:
        opened.close()
    return opened is not None


def try_open(path: str | os.PathLike[str]) -> tuple[Opened | None, tuple[Problem, ...]]:
    """An opened checkpoint and no problems, or None and why there is none.

    System errors other than absence (permissions, a vanished mount) pass through.
    """
    where = Path(path)
    if not where.is_dir():
        return None, (no_directory(where),)
    try:
        opened = Opened(where)
    except (FileNotFoundError, NotADirectoryError):
        return None, (no_directory(where),)  # it was removed this very moment
    try:
        data = opened.read(layout.META, limits.META_BYTES)
    except FileNotFoundError:
        problem = no_meta(where, opened.names())
        opened.close()
        return None, (problem,)
    except NotPlainFileError as error:
        opened.close()
        kind = error.strerror
        message = f"is {kind}, not a plain file"
        return None, (Problem(code="file-kind", where=layout.META, message=message, found=kind),)
    except Refused as refused:
        opened.close()
        return None, (refused.problem(layout.META),)
    except BaseException:
        opened.close()
        raise
    meta, problems = parse_meta(data)
    if meta is None:
        opened.close()
        return None, problems
    opened.meta, opened.meta_bytes = meta, data
    return opened, ()
