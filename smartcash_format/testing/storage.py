"""What the storage under a directory keeps, tried out, and how the package behaves on it."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from smartcash_format.disk.leftovers import leftovers
from smartcash_format.disk.mounts import file_system, is_mapped
from smartcash_format.disk.observe import validate
from smartcash_format.disk.owner import this_process
from smartcash_format.disk.publish import free_bytes, remove
from smartcash_format.disk.transfer import transfer
from smartcash_format.errors import CheckpointError
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.watching import watched
from smartcash_format.testing.sample import write_sample

# Enough that a rename child by child is seen half done by whoever looks all the time.
_CHILDREN: Final = 64
_RENAMES: Final = 40
# Beyond this the age of what an unknown writer left would be wrong by more than it matters.
_CLOCK_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that storage may keep: whether it does, what was seen, and what follows from it."""

    name: str
    holds: bool
    seen: str
    means: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageReport:
    """What was found on the storage under a directory.

    `usable` is whether a checkpoint was saved, verified, copied and removed there.
    """

    directory: Path
    file_system: str
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether checkpoints can be kept there at all."""
        return all(finding.holds for finding in self.findings if finding.name == "checkpoints")

    def lines(self) -> list[str]:
        """The report for people, a line each and one below for what follows from it."""
        verdict = (
            "checkpoints can be kept here" if self.usable else "NO CHECKPOINTS CAN BE KEPT HERE"
        )
        rows = [f"{self.directory} ({self.file_system}): {verdict}"]
        width = max(len(finding.name) for finding in self.findings)
        for finding in self.findings:
            mark = "yes" if finding.holds else "no "
            rows.append(f"  {mark} {finding.name:<{width}}  {finding.seen}")
            rows.append(f"      {'':<{width}}  {finding.means}")
        return rows


def storage_test(directory: str | os.PathLike[str]) -> StorageReport:
    """Tries what saving, pruning and copying rely on, in a hidden directory that is removed again.

    Raises OSError when not even that directory can be made.
    """
    directory = Path(directory)
    with watched(f"trying {directory}"), _scratch(directory) as scratch:
        findings = tuple(_try(name, look, scratch) for name, look in _LOOKS.items())
    return StorageReport(
        directory=directory, file_system=_file_system(directory), findings=findings
    )


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    # Under the name of a stage: were this killed, the next writer of the root would clear it.
    path = directory / (layout.STAGING_PREFIX + this_process().name())
    try:
        os.mkdir(path)
    except OSError as error:
        error.filename = str(directory)  # nobody knows of the one in it
        raise
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


_Look = Callable[[Path], tuple[bool, str, str]]


def _try(name: str, look: _Look, scratch: Path) -> Finding:
    place = scratch / name.replace(" ", "-")
    try:
        os.mkdir(place)
        holds, seen, means = look(place)
    except (OSError, CheckpointError) as error:
        holds, seen = False, f"fails: {getattr(error, 'strerror', None) or error}"
        means = _WITHOUT[name]
    return Finding(name=name, holds=holds, seen=seen, means=means)


def _checkpoints(place: Path) -> tuple[bool, str, str]:
    started = time.perf_counter()
    path = write_sample(place / "root", epoch=1, floats=1 << 17)
    (copy,) = transfer([path], place / "copies").copied
    whole = validate(path, Depth.CONTENT).valid and validate(copy, Depth.CONTENT).valid
    remove(path)
    rest = [*os.listdir(place / "root"), *leftovers(place / "copies")]
    seconds = time.perf_counter() - started
    if not whole or rest:
        return False, "were not whole, or left something behind", _WITHOUT["checkpoints"]
    return True, f"saved, verified, copied, removed in {seconds:.2f} s", "saving works"


def _rename_at_once(place: Path) -> tuple[bool, str, str]:
    os.mkdir(place / "a")
    for number in range(_CHILDREN):
        (place / "a" / str(number)).write_bytes(b"")
    # After each rename: a number is soon used again.
    numbers = {os.stat(place / "a").st_ino}
    half, done = threading.Event(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(place, half, done))
    watcher.start()
    try:
        for _ in range(_RENAMES // 2):
            os.rename(place / "a", place / "b")
            numbers.add(os.stat(place / "b").st_ino)
            os.rename(place / "b", place / "a")
            numbers.add(os.stat(place / "a").st_ino)
    finally:
        done.set()
        watcher.join()
    if half.is_set() or len(numbers) > 1:
        seen = "half of a renamed directory was seen" if half.is_set() else "it becomes another one"
        return False, seen, _WITHOUT["rename at once"]
    return True, f"{_RENAMES} renames, none seen half", "a checkpoint appears and vanishes at once"


def _watch(place: Path, half: threading.Event, done: threading.Event) -> None:
    while not done.is_set():
        for name in ("a", "b"):
            with contextlib.suppress(OSError):
                if 0 < len(os.listdir(place / name)) < _CHILDREN:
                    half.set()


def _no_clobber(place: Path) -> tuple[bool, str, str]:
    for name in ("a", "b"):
        os.mkdir(place / name)
        (place / name / "file").write_text(name)
    try:
        os.rename(place / "a", place / "b")
    except OSError as error:
        if (place / "b" / "file").read_text() == "b":
            seen = f"a rename onto a full directory fails ({errno.errorcode[error.errno or 0]})"
            return True, seen, "two writers of one name never overwrite each other"
    return False, "a rename replaced a full directory", _WITHOUT["no clobber"]


def _directory_sync(place: Path) -> tuple[bool, str, str]:
    _sync(place)
    return True, "fsync of a directory works", "what is saved survives a power cut"


def _file_sync(place: Path) -> tuple[bool, str, str]:
    (place / "file").write_bytes(bytes(4096))
    started = time.perf_counter()
    _sync(place / "file")
    seconds = time.perf_counter() - started
    return (
        True,
        f"fsync of a file works ({seconds * 1000:.1f} ms)",
        "data are on the disk when saved",
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locks(place: Path) -> tuple[bool, str, str]:
    try:
        import fcntl
    except ImportError:
        return False, "this system has no flock", _WITHOUT["locks"]
    (place / "file").write_bytes(b"")
    with open(place / "file", "rb") as one, open(place / "file", "rb") as two:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True, "a second flock waits", "nothing needs it"
    return False, "two held one lock", _WITHOUT["locks"]


def _hard_links(place: Path) -> tuple[bool, str, str]:
    (place / "file").write_bytes(b"x")
    os.link(place / "file", place / "link")
    count = os.stat(place / "file").st_nlink
    os.unlink(place / "file")
    if count != 2 or (place / "link").read_bytes() != b"x":
        return False, f"a linked file counts {count} names", _WITHOUT["hard links"]
    return True, "work", "unchanged weights can be shared by checkpoints"


def _exclusive(place: Path) -> tuple[bool, str, str]:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(place / "file", flags))
    try:
        os.close(os.open(place / "file", flags))
    except FileExistsError:
        return True, "a file is made by one", "no file of a save is another's"
    return False, "two made one file", _WITHOUT["exclusive files"]


def _case(place: Path) -> tuple[bool, str, str]:
    (place / "Name").write_bytes(b"")
    if os.path.lexists(place / "nAME"):
        return False, "Name and nAME are one", _WITHOUT["case"]
    return True, "Name and nAME are two", "names are as they are written"


def _space(place: Path) -> tuple[bool, str, str]:
    free = free_bytes(place)
    if free is None:
        return False, "it does not say", _WITHOUT["free space"]
    return True, f"{free:,} bytes", "a save that does not fit is refused before its first byte"


def _modes(place: Path) -> tuple[bool, str, str]:
    (place / "file").write_bytes(b"")
    os.chmod(place / "file", 0o640)
    mode = os.stat(place / "file").st_mode & 0o777
    if mode != 0o640:
        return False, f"640 became {mode:o}", _WITHOUT["modes"]
    return True, "are kept", "files have the mode that open() gives"


def _maps(place: Path) -> tuple[bool, str, str]:
    (place / "file").write_bytes(b"mapped" * 1000)
    with (
        open(place / "file", "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        same = mapped[:6] == b"mapped"
    kind = file_system(os.stat(place).st_dev)
    if same and not is_mapped(kind):
        return False, f"is not relied on where the type is {kind}", _WITHOUT["mapping"]
    return same, "files can be mapped", "weights are read without a copy"


def _clock(place: Path) -> tuple[bool, str, str]:
    (place / "file").write_bytes(b"")
    apart = os.stat(place / "file").st_mtime - time.time()
    if abs(apart) > _CLOCK_S:
        return False, f"is {apart:+,.0f} s from this machine's", _WITHOUT["clock"]
    return True, "is this machine's", "the age of what an unknown writer left is known"


_LOOKS: Final[dict[str, _Look]] = {
    "checkpoints": _checkpoints,
    "rename at once": _rename_at_once,
    "no clobber": _no_clobber,
    "file fsync": _file_sync,
    "directory fsync": _directory_sync,
    "exclusive files": _exclusive,
    "hard links": _hard_links,
    "locks": _locks,
    "case": _case,
    "free space": _space,
    "modes": _modes,
    "mapping": _maps,
    "clock": _clock,
}
# What follows where something does not hold.
_WITHOUT: Final[dict[str, str]] = {
    "checkpoints": "nothing can be saved here",
    "rename at once": "a crash while one is published or removed may leave half of it: no reader "
    "takes it for a checkpoint, doctor lists it",
    "no clobber": "two writers of one name may overwrite each other; names have random digits, so "
    "only save_checkpoint(path) to one path is in danger",
    "file fsync": "a save fails: it could not be known to be stored",
    "directory fsync": "after a power cut the newest checkpoint may be missing; older ones stand",
    "exclusive files": "two copies of one process at once may mix; use one writer",
    "hard links": "incremental saves write full files; what is removed is emptied first",
    "locks": "nothing follows: no lock is taken",
    "case": "nothing follows: names differ in more than case",
    "free space": "a full disk shows only in the middle of a save, which is then taken back",
    "modes": "who may read the files is decided by the mount",
    "mapping": "files are read into memory",
    "clock": "what an unknown writer left is aged by the storage's clock, not by this machine's",
}


def _file_system(directory: Path) -> str:
    """The type of the mount that a directory is on, where the system tells."""
    try:
        table = Path("/proc/mounts").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return "type unknown"
    where = Path(os.path.realpath(directory))
    mounts = [(Path(part[1].replace("\\040", " ")), part[2]) for part in map(str.split, table)]
    found = [(point, kind) for point, kind in mounts if where.is_relative_to(point)]
    return max(found, key=lambda mount: len(mount[0].parts))[1] if found else "type unknown"
