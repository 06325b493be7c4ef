"""Verified copies: what arrives is what was saved, or nothing arrives (FORMAT.md, Copies).

A checkpoint is copied into a stage of the target root, every file hashed while it is read and then
read back and hashed again, meta.json last, and published like a save. Copies are full files,
never links. What is already there is skipped, so a copy that was cut short goes on where it stopped
when it is started again: it has the same meta.json, which has the digests of all files, every file
in its size, and the small ones by their digests; the large ones too for who asks to `verify`. The
source's history and pins are not touched.

A name that is taken by something else is left as it is: the copy goes beside it, with the first
digits of its meta_digest at the end of its name.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from smartcash_format.disk.placing import write_at
from smartcash_format.disk.publish import Stage, require_space, stage
from smartcash_format.disk.read import Opened, open_checkpoint
from smartcash_format.errors import (
    CheckpointError,
    CheckpointExistsError,
    CheckpointWriteError,
    InvalidCheckpointError,
)
from smartcash_format.spec import digest, layout
from smartcash_format.spec.meta import FileRecord, Meta
from smartcash_format.spec.watching import Progress, watched

# Large enough for a network mount, small enough to show progress.
CHUNK_BYTES: Final = 4 << 20
# Up to here a file of what is there already is always hashed: one request, also on Drive.
SMALL_BYTES: Final = 4 << 20
# How many digits of the meta_digest tell two checkpoints of one name apart.
_APART_DIGITS: Final = 8

_PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A checkpoint that was not copied: it is there already, or its source is not whole.

    `place` is where it is already.
    """

    source: Path
    kind: Literal["identical", "broken"]
    reason: str
    place: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """What a transfer did: the copies it made, in the order of their sources, and the others."""

    copied: tuple[Path, ...]
    skipped: tuple[Skipped, ...]
    size_bytes: int


def transfer(
    sources: _PathLike | Iterable[_PathLike],
    target_root: _PathLike,
    *,
    progress: Progress | None = None,
    inspect: Callable[[Path], None] | None = None,
    verify: bool = False,
) -> Transferred:
    """Copies checkpoints into another root, each verified; what was copied and what was not.

    `sources` are paths of checkpoints, or one path: of a root, `CheckpointStore(root).list()` has
    them.
    A source that is broken or vanishes is skipped with its reason, the others go on. With `verify`
    every byte of what is there already is read, before it is called identical; what has rotted
    there is left, and the copy goes beside it. `progress` is
    called with (bytes done, bytes in all); done counts when the copy has been read back. `inspect`
    is given each whole copy before anybody else can see it; what it raises is raised. Raises
    InsufficientSpaceError before the first byte, CheckpointWriteError when the target fails:
    what was copied until then is whole and is skipped the next time. CheckpointExistsError, once
    the others are copied, for one whose names are both taken by something else.
    """
    given = [sources] if isinstance(sources, str | os.PathLike) else sources
    target_root = Path(target_root)
    target = _Target(target_root, verify=verify)
    plan, skipped, taken = _plan([Path(source) for source in given], target)
    total = sum(size for _, size in plan)
    if plan:
        require_space(target_root, total)
    copied: list[Path] = []
    size_bytes = 0
    with watched(f"copying {len(plan)} checkpoints", progress) as tell:
        meter = _Meter(total, tell)
        for source, size in plan:
            try:
                copied.append(_copy(source, target, meter, inspect))
                size_bytes += size
            except _Skip as skip:
                skipped.append(skip.what)
            meter.finish(size)
    if taken is not None:
        raise taken
    return Transferred(copied=tuple(copied), skipped=tuple(skipped), size_bytes=size_bytes)


class _Skip(Exception):
    def __init__(
        self,
        source: Path,
        kind: Literal["identical", "broken"],
        reason: str,
        place: Path | None = None,
    ) -> None:
        self.what = Skipped(source=source, kind=kind, reason=reason, place=place)


class _Meter:
    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total = total
        self._progress = progress
        self._finished = 0
        self._halves = 0

    def add(self, size_bytes: int) -> None:
        """Counts bytes written, and the same bytes again when they have been read back."""
        self._halves += size_bytes
        self._tell()

    def again(self) -> None:
        """Starts the present checkpoint anew."""
        self._halves = 0

    def finish(self, size_bytes: int) -> None:
        """Counts a checkpoint as done, also one that was skipped half-way."""
        self._finished += size_bytes
        self._halves = 0
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._finished + self._halves // 2, self.total)


def _plan(
    sources: Sequence[Path], target: _Target
) -> tuple[list[tuple[Path, int]], list[Skipped], CheckpointExistsError | None]:
    """What is to be copied, with its bytes; what is not; and the first that has no place."""
    plan: list[tuple[Path, int]] = []
    skipped: list[Skipped] = []
    taken: CheckpointExistsError | None = None
    for source in sources:
        try:
            with _open(source) as opened:
                target.place(source, opened.meta)
                plan.append((source, opened.meta.size_bytes + len(opened.meta_bytes)))
        except _Skip as skip:
            skipped.append(skip.what)
        except CheckpointExistsError as error:
            taken = taken or error  # raised once the others are there
    return plan, skipped, taken


def _open(source: Path) -> Opened:
    try:
        opened = open_checkpoint(source)
    except InvalidCheckpointError as error:
        first = error.problems[0]
        raise _Skip(source, "broken", f"{first.where}: {first.message}") from error
    except (CheckpointError, OSError) as error:
        raise _Skip(source, "broken", str(error)) from error
    for name, record in opened.meta.files.items():
        reason = _unfit(opened, name, record)
        if reason is not None:
            opened.close()
            raise _Skip(source, "broken", reason)
    return opened


def _unfit(opened: Opened, name: str, record: FileRecord) -> str | None:
    """Why a listed file cannot be copied as it is listed; None when it can."""
    if not layout.is_plain_name(name) or not digest.is_known(record.digest):
        return f"{name[:80]!r} has a name or digest unknown here"
    try:
        size_bytes = opened.listed_size(name)
    except OSError as error:
        return f"{name} cannot be read: {error.strerror or error}"
    if size_bytes != record.size_bytes:
        return f"{name} has {size_bytes:,} bytes instead of {record.size_bytes:,}"
    return None


class _Target:
    """A root that is copied into: where a checkpoint goes there, or that it is there."""

    def __init__(self, root: Path, *, verify: bool) -> None:
        self._root = root
        self._hashed_bytes = None if verify else SMALL_BYTES

    def place(self, source: Path, meta: Meta) -> Path:
        """Under the source's name, or beside what has that name; nothing is copied to be hidden."""
        _, _, digits = meta.meta_digest.partition(":")
        name = Path(os.path.abspath(source)).name
        if layout.is_hidden(name):  # no listing would show it, and the next writer might clear it
            name = layout.directory_name(
                epoch=meta.epoch, step=meta.step, checkpoint_id=meta.checkpoint_id
            )
        for place in (self._root / name, self._root / f"{name}-{digits[:_APART_DIGITS]}"):
            if not os.path.lexists(place):
                return place
            if self._is_there(place, meta):
                raise _Skip(source, "identical", f"is already there as {place}", place)
        raise CheckpointExistsError(
            f"{place} is not a whole copy of {name} and stands in its place; it was not copied",
            path=place,
        )

    def _is_there(self, place: Path, meta: Meta) -> bool:
        """Whether the same checkpoint stands there, as far as it is looked at."""
        try:
            with open_checkpoint(place) as opened:
                return opened.meta.meta_digest == meta.meta_digest and all(
                    opened.listed_size(name) == record.size_bytes
                    and (self._leaves(record.size_bytes) or _holds(opened, name, record.digest))
                    for name, record in meta.files.items()
                )
        except (CheckpointError, OSError):
            return False

    def _leaves(self, size_bytes: int) -> bool:
        return self._hashed_bytes is not None and size_bytes > self._hashed_bytes


def _holds(opened: Opened, name: str, stated: str) -> bool:
    running = digest.hasher(algorithm := digest.algorithm_of(stated))
    stream = opened.raw(name)
    while chunk := stream.read(CHUNK_BYTES):
        running.update(chunk)
    return digest.named(running, algorithm) == stated


def _copy(
    source: Path, target: _Target, meter: _Meter, inspect: Callable[[Path], None] | None
) -> Path:
    with _open(source) as opened:
        refused: set[Path] = set()
        while True:
            place = target.place(source, opened.meta)
            try:
                with stage(place, verb="copied") as staged:
                    for name, record in sorted(opened.meta.files.items()):
                        _copy_file(opened, name, record, staged, meter)
                    meta_digest = digest.digest_of(opened.meta_bytes)
                    _write(staged, layout.META, [opened.meta_bytes], meter)
                    _read_back(staged, layout.META, meta_digest, meter)
                    if inspect is not None:
                        inspect(staged.path)
                    return staged.publish()
            except CheckpointExistsError:
                # The name was taken meanwhile, by the same copy or by another: look again. A mount
                # that still calls it free gives old answers, and may go on so.
                if place in refused:
                    raise
                refused.add(place)
                meter.again()


def _copy_file(opened: Opened, name: str, record: FileRecord, staged: Stage, meter: _Meter) -> None:
    running = digest.hasher(algorithm := digest.algorithm_of(record.digest))
    _write(staged, name, _chunks(opened, name, record.size_bytes, running), meter)
    if digest.named(running, algorithm) != record.digest:
        reason = f"{name} does not have the bytes it was saved with: it was changed or has rotted"
        raise _Skip(opened.path, "broken", reason)
    # For people; nothing depends on it, and not every mount can.
    with contextlib.suppress(OSError):
        facts = os.stat(opened.path / name)
        os.utime(staged.path / name, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    _read_back(staged, name, record.digest, meter)


def _chunks(
    opened: Opened, name: str, size_bytes: int, running: digest.Hasher
) -> Iterator[memoryview]:
    """The source's bytes, hashed on the way, and none beyond those that meta.json lists: room was
    asked for these. Its errors are no errors of the target.
    """
    buffer = memoryview(bytearray(CHUNK_BYTES))
    try:
        # Read, not mapped: a mapped file that is truncated meanwhile ends the process.
        with opened.raw(name) as stream:
            while count := stream.readinto(buffer):  # type: ignore[attr-defined]
                size_bytes -= count
                if size_bytes < 0:
                    raise _Skip(opened.path, "broken", f"{name} grew while it was copied")
                running.update(buffer[:count])
                yield buffer[:count]
    except OSError as error:
        reason = f"{name} cannot be read: {error.strerror or error}"
        raise _Skip(opened.path, "broken", reason) from error


def _write(staged: Stage, name: str, chunks: Iterable[bytes | memoryview], meter: _Meter) -> None:
    descriptor = staged.create(name)
    try:
        offset = 0
        for chunk in chunks:
            write_at(descriptor, offset, [chunk])
            offset += len(chunk)
            meter.add(len(chunk))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_back(staged: Stage, name: str, expected: str, meter: _Meter) -> None:
    running = digest.hasher(algorithm := digest.algorithm_of(expected))
    descriptor = os.open(staged.path / name, os.O_RDONLY)
    try:
        if hasattr(os, "posix_fadvise"):
            # So that the bytes come from the storage, where the system knows how, not from memory.
            with contextlib.suppress(OSError):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := os.read(descriptor, CHUNK_BYTES):
            running.update(chunk)
            meter.add(len(chunk))
    finally:
        os.close(descriptor)
    if digest.named(running, algorithm) != expected:
        raise CheckpointWriteError(
            f"{staged.final.name} was not copied: {name} reads back other bytes than were written; "
            "the storage or the memory of this machine is faulty",
            path=staged.final,
            errno=errno.EIO,
        )
