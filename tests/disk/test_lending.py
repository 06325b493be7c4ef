"""What the page cache lends: nobody can cut it, and what cannot be read is an error."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from smartcash_format.disk import lending
from smartcash_format.disk.observe import validate
from smartcash_format.disk.read import open_checkpoint
from smartcash_format.disk.stated import Stated, compare
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Depth
from smartcash_format.testing.sample import write_sample

if sys.platform != "linux":
    pytest.skip("only Linux has leases", allow_module_level=True)

import fcntl

PAGE = mmap.PAGESIZE
WEIGHTS = layout.weights_file("model")


@pytest.fixture
def lent(tmp_path: Path) -> Iterator[int]:
    """A descriptor of `tmp_path / "file"`: two pages and a half that differ."""
    path = tmp_path / "file"
    path.write_bytes(b"".join(bytes([number]) * (PAGE // 2) for number in range(5)))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        mmap.mmap(descriptor, PAGE, prot=mmap.PROT_READ).madvise(lending._POPULATE_READ)
    except OSError as error:
        os.close(descriptor)
        pytest.skip(f"this system lends nothing: {error}")
    yield descriptor
    os.close(descriptor)


def lent_pieces(descriptor: int, size_bytes: int) -> Generator[memoryview, None, None]:
    return lending.lent_pieces(descriptor, size_bytes, PAGE)


def size_of(descriptor: int) -> int:
    return os.fstat(descriptor).st_size


def test_all_bytes_are_lent_in_order(lent: int, tmp_path: Path) -> None:
    pieces = [bytes(piece) for piece in lent_pieces(lent, size_of(lent))]
    assert [len(piece) for piece in pieces] == [PAGE, PAGE, PAGE // 2]
    assert b"".join(pieces) == (tmp_path / "file").read_bytes()
    assert fcntl.fcntl(lent, fcntl.F_GETLEASE) == fcntl.F_UNLCK


def test_nobody_writes_into_what_is_lent(lent: int, tmp_path: Path) -> None:
    for piece in lent_pieces(lent, size_of(lent)):
        with pytest.raises(BlockingIOError):
            os.open(tmp_path / "file", os.O_WRONLY | os.O_NONBLOCK)
        assert piece.readonly
    os.close(os.open(tmp_path / "file", os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.attack("move", "a file that is cut while it is lent", "the cut waits")
def test_who_cuts_a_file_waits_until_the_piece_is_given_back(lent: int, tmp_path: Path) -> None:
    pieces = lent_pieces(lent, size_of(lent))
    piece = next(pieces)
    cutter = threading.Thread(target=os.truncate, args=(tmp_path / "file", 0))
    cutter.start()
    cutter.join(0.2)
    assert cutter.is_alive()
    assert bytes(piece) == b"\0" * (PAGE // 2) + b"\1" * (PAGE // 2)
    assert list(pieces) == []
    cutter.join()
    assert size_of(lent) == 0


def test_who_stops_early_gives_back(lent: int, tmp_path: Path) -> None:
    pieces = lent_pieces(lent, size_of(lent))
    next(pieces)
    pieces.close()
    os.close(os.open(tmp_path / "file", os.O_WRONLY | os.O_NONBLOCK))


def test_a_piece_is_gone_with_its_lease_and_its_descriptor(lent: int) -> None:
    before = os.listdir("/proc/self/fd")
    for piece in lent_pieces(lent, size_of(lent)):
        last = piece
    with pytest.raises(ValueError, match="released"):
        bytes(last)
    assert os.listdir("/proc/self/fd") == before


def test_a_part_of_a_piece_that_somebody_keeps_stays_mapped(lent: int) -> None:
    parts = [piece[:2] for piece in lent_pieces(lent, size_of(lent))]
    assert [bytes(part) for part in parts] == [b"\0\0", b"\2\2", b"\4\4"]


@pytest.mark.usefixtures("lent")  # where the system lends nothing, nothing is shown here
def test_no_lease_and_no_descriptor_is_left_for_who_keeps_an_error(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise ZeroDivisionError

    path = write_sample(tmp_path / "root", epoch=1)
    before = os.listdir("/proc/self/fd")
    # A notebook keeps the last error, and with it the frames of those who were at work.
    with pytest.raises(ZeroDivisionError) as kept:
        validate(path, Depth.CONTENT, progress=stop)
    os.close(os.open(path / WEIGHTS, os.O_WRONLY | os.O_NONBLOCK))
    assert os.listdir("/proc/self/fd") == before
    assert kept.tb is not None


@pytest.mark.usefixtures("lent")
def test_no_lease_is_left_for_who_keeps_an_error_of_a_load(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise ZeroDivisionError

    path = write_sample(tmp_path / "root", epoch=1)
    with open_checkpoint(path) as opened:
        record = opened.meta.files[WEIGHTS]
        stated = Stated(
            where=WEIGHTS,
            digest=record.digest,
            size_bytes=record.size_bytes,
            read=lambda threads: opened.chunks(WEIGHTS, threads=threads),
        )
        with pytest.raises(ZeroDivisionError) as kept:
            compare([stated], progress=stop)
        os.close(os.open(path / WEIGHTS, os.O_WRONLY | os.O_NONBLOCK))
    assert kept.tb is not None


def test_what_is_open_for_writing_is_not_lent(lent: int, tmp_path: Path) -> None:
    with open(tmp_path / "file", "r+b"):
        assert list(lent_pieces(lent, size_of(lent))) == []
    assert len(list(lent_pieces(lent, size_of(lent)))) == 3


def test_what_cannot_be_read_is_an_error_and_not_the_end_of_the_process(
    lent: int, tmp_path: Path
) -> None:
    mapped = mmap.mmap(lent, size_of(lent), mmap.MAP_PRIVATE)
    # What lies behind the end of a file is SIGBUS for who touches it, as a bad sector is.
    os.truncate(tmp_path / "file", PAGE)
    with pytest.raises(OSError, match="Bad address"):
        lending._populate(mapped)


def test_what_ends_before_it_should_is_lent_to_its_end(lent: int, tmp_path: Path) -> None:
    size_bytes = size_of(lent)
    os.truncate(tmp_path / "file", PAGE)
    assert [len(piece) for piece in lent_pieces(lent, size_bytes)] == [PAGE]


def test_what_is_not_lent_to_its_end_is_read(lent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sample(Path(f"/proc/self/fd/{lent}").resolve().parent / "root", epoch=1)
    real = lending._mapped
    lendings = iter([True, False])

    def once(
        descriptor: int, begin: int, count: int
    ) -> contextlib.AbstractContextManager[memoryview]:
        if not next(lendings):
            raise OSError("a page cannot be read")
        return real(descriptor, begin, count)

    with open(path / WEIGHTS, "ab") as file:
        file.write(os.urandom(3 * PAGE))
    monkeypatch.setattr(lending, "_mapped", once)
    with open_checkpoint(path) as opened:
        pieces = opened.pieces(WEIGHTS, lent_bytes=PAGE)
        assert b"".join(map(bytes, pieces)) == (path / WEIGHTS).read_bytes()
    assert list(lendings) == []


def test_what_is_not_in_the_page_cache_is_not_lent(lent: int) -> None:
    os.fsync(lent)
    os.posix_fadvise(lent, 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        os.preadv(lent, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        pass  # and the system may have begun to read it now
    except OSError as error:
        pytest.skip(f"this file system does not tell what is in the page cache: {error}")
    else:
        pytest.skip("this file system keeps all of it in memory")
    os.pread(lent, size_of(lent), 0)
    assert len(list(lent_pieces(lent, size_of(lent)))) == 3
    os.posix_fadvise(lent, 0, 0, os.POSIX_FADV_DONTNEED)
    assert list(lent_pieces(lent, size_of(lent))) == []


def test_without_leases_everything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def refused(descriptor: int) -> Iterator[None]:
        raise PermissionError("of another user")
        yield

    path = write_sample(tmp_path / "root", epoch=1)
    whole = validate(path, Depth.CONTENT)
    monkeypatch.setattr(lending, "_leased", refused)
    assert validate(path, Depth.CONTENT) == whole
    assert whole.valid


def test_without_ctypes_everything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sample(tmp_path / "root", epoch=1)
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert validate(path, Depth.CONTENT).valid
