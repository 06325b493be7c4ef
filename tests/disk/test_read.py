from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import lending, read
from smartcash_format.disk.kinds import NotPlainFileError
from smartcash_format.disk.read import open_checkpoint, read_meta, try_open
from smartcash_format.errors import (
    CheckpointNotFoundError,
    InvalidCheckpointError,
    UnsupportedVersionError,
)
from smartcash_format.spec import layout
from smartcash_format.spec.refusal import Refused
from smartcash_format.testing.sample import write_sample

WEIGHTS = "model.safetensors"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "root", epoch=3, floats=40_000)


def replace_meta(path: Path, **changes: object) -> None:
    document = json.loads((path / layout.META).read_bytes())
    (path / layout.META).write_text(json.dumps({**document, **changes}))


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def test_opening_reads_meta_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_names: list[str] = []
    real = os.open

    def note(name: Any, *args: Any, **kwargs: Any) -> int:
        opened_names.append(Path(name).name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", note)
    with open_checkpoint(path) as opened:
        assert opened.meta.epoch == 3
        assert opened.meta_bytes == (path / layout.META).read_bytes()
    assert opened_names == [path.name, layout.META]
    assert read_meta(path).epoch == 3


def test_a_buffer_has_the_bytes_of_the_file(path: Path) -> None:
    with open_checkpoint(path) as opened:
        for name in (*opened.meta.files, layout.META):
            data = (path / name).read_bytes()
            assert bytes(opened.buffer(name)) == data
            assert opened.buffer(name) is opened.buffer(name)
            assert opened.raw(name).read() == data
            assert opened.size(name) == opened.listed_size(name) == len(data)


def test_a_stream_seeks_and_tells(path: Path) -> None:
    data = (path / WEIGHTS).read_bytes()
    with open_checkpoint(path) as opened:
        stream = opened.raw(WEIGHTS)
        assert stream.seek(-10, os.SEEK_END) == len(data) - 10
        assert stream.read(100) == data[-10:]
        assert stream.read(1) == b""
        assert stream.seek(5) == stream.tell() == 5
        target = bytearray(70_000)
        assert stream.readinto(target) == 70_000  # type: ignore[attr-defined]
        assert target == data[5:70_005]
        assert stream.seek(3, os.SEEK_CUR) == 70_008
        assert stream.read(2) == data[70_008:70_010]


def test_two_streams_of_one_file_do_not_move_each_other(path: Path) -> None:
    with open_checkpoint(path) as opened:
        one, two = opened.raw(WEIGHTS), opened.raw(WEIGHTS)
        assert one.read(100_000)[:8] == two.read(8)


def test_at_most_one_byte_more_than_asked_is_read_of_a_small_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_checkpoint(path) as opened:
        with pytest.raises(Refused, match="at most 100 are allowed"):
            opened.read(WEIGHTS, 100)
        # It grew since it was asked.
        monkeypatch.setattr(opened, "size", lambda name: 100)
        assert len(opened.read(WEIGHTS, 100)) == 101


def test_a_mount_that_cannot_map_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with open_checkpoint(path) as opened:
        assert bytes(opened.buffer(WEIGHTS)) == (path / WEIGHTS).read_bytes()


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything lies on a network mount."""
    monkeypatch.setattr(read, "file_system", lambda device: "nfs4")


@pytest.mark.usefixtures("network")
def test_what_is_on_a_network_mount_is_never_mapped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("mapped")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with open_checkpoint(path) as opened:
        for name in opened.meta.files:
            assert bytes(opened.buffer(name)) == (path / name).read_bytes()


@pytest.mark.usefixtures("network")
def test_what_was_read_as_a_whole_is_what_everybody_gets_afterwards(path: Path) -> None:
    data = (path / WEIGHTS).read_bytes()
    with open_checkpoint(path) as opened:
        assert opened.held(WEIGHTS) is None
        assert b"".join(bytes(piece) for piece in opened.chunks(WEIGHTS)) == data
        (path / WEIGHTS).write_bytes(bytes(len(data)))
        held = opened.held(WEIGHTS)
        assert held is not None
        assert held == data
        assert opened.buffer(WEIGHTS) == data
        assert b"".join(opened.chunks(WEIGHTS)) == data
        target = bytearray(100)
        opened.read_into(WEIGHTS, memoryview(target), 50)
        assert target == data[50:150]
        opened.release(WEIGHTS)
        assert opened.held(WEIGHTS) is None
        opened.read_into(WEIGHTS, memoryview(target), 50)
        assert target == bytes(100)
    assert held == data  # whoever has it keeps it


def test_what_is_mapped_is_not_held(path: Path) -> None:
    with open_checkpoint(path) as opened:
        for piece in opened.chunks(WEIGHTS):
            assert piece
        assert opened.held(WEIGHTS) is None
        assert opened.buffer(WEIGHTS) == (path / WEIGHTS).read_bytes()


def test_a_bad_sector_is_an_error_of_chunks_and_not_the_end_of_the_process(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rotten(*args: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with open_checkpoint(path) as opened:
        opened.size(WEIGHTS)
        monkeypatch.setattr(os, "preadv", rotten)
        monkeypatch.setattr(lending, "_madvise", lambda: rotten)
        with pytest.raises(OSError, match="Input/output error"):
            list(opened.chunks(WEIGHTS))


def test_an_empty_file_has_an_empty_buffer(path: Path) -> None:
    (path / "aux").write_bytes(b"")
    with open_checkpoint(path) as opened:
        assert bytes(opened.buffer("aux")) == b""


@pytest.mark.attack("move", "a file replaced after it was opened", "what was opened is read on")
def test_a_file_that_is_replaced_after_it_was_opened_is_not_what_is_read(path: Path) -> None:
    with open_checkpoint(path) as opened:
        before = bytes(opened.buffer(WEIGHTS))
        (path / "new").write_bytes(b"other")
        os.rename(path / "new", path / WEIGHTS)
        assert bytes(opened.buffer(WEIGHTS)) == opened.raw(WEIGHTS).read() == before


def test_a_checkpoint_that_is_renamed_while_open_is_read_on(path: Path) -> None:
    with open_checkpoint(path) as opened:
        os.rename(path, path.parent / ".trash-x")
        path.mkdir()
        (path / WEIGHTS).write_bytes(b"other")
        assert opened.raw(WEIGHTS).read(8) != b"other"
        assert layout.META in opened.names()


def test_what_is_written_to_a_buffer_does_not_reach_the_file(path: Path) -> None:
    before = (path / WEIGHTS).read_bytes()
    with open_checkpoint(path) as opened:
        opened.buffer(WEIGHTS)[-1] ^= 1
        assert opened.buffer(WEIGHTS)[-1] != before[-1]
    assert (path / WEIGHTS).read_bytes() == before


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="counts descriptors in /dev/fd")
def test_closing_releases_every_descriptor_also_when_a_buffer_is_held(path: Path) -> None:
    before = descriptors()
    with open_checkpoint(path) as opened:
        held = [opened.buffer(name) for name in opened.meta.files]
        assert descriptors() > before
    assert [len(buffer) for buffer in held] == [r.size_bytes for r in opened.meta.files.values()]
    held.clear()
    assert descriptors() == before


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="counts descriptors in /dev/fd")
@pytest.mark.parametrize("damage", ["absent", "damaged", "linked"])
def test_a_checkpoint_that_does_not_open_leaves_nothing_open(path: Path, damage: str) -> None:
    (path / layout.META).unlink()
    if damage == "damaged":
        (path / layout.META).write_text("{")
    elif damage == "linked":
        (path / layout.META).symlink_to(path / WEIGHTS)
    before = descriptors()
    assert try_open(path)[0] is None
    assert descriptors() == before


def make_link(place: Path) -> None:
    shutil.move(place, place.parent.parent / "elsewhere")
    place.symlink_to(place.parent.parent / "elsewhere")


def make_socket(place: Path) -> None:
    place.unlink()
    here = os.open(place.parent, os.O_RDONLY)
    server = socket.socket(socket.AF_UNIX)
    try:
        server.bind(f"/proc/self/fd/{here}/{place.name}")  # a socket's path has 108 bytes
    finally:
        server.close()
        os.close(here)


def make_pipe(place: Path) -> None:
    place.unlink()
    os.mkfifo(place)


def make_directory(place: Path) -> None:
    place.unlink()
    place.mkdir()


ODD: dict[str, Callable[[Path], None]] = {
    "a symbolic link": make_link,
    "a named pipe": make_pipe,
    "a directory": make_directory,
    "a socket": make_socket,
}


@pytest.mark.parametrize("kind", ODD)
def test_only_plain_files_are_opened_and_never_through_a_link(path: Path, kind: str) -> None:
    ODD[kind](path / WEIGHTS)
    with open_checkpoint(path) as opened:
        for look in (opened.raw, opened.buffer, opened.size, opened.listed_size):
            with pytest.raises(NotPlainFileError) as caught:
                look(WEIGHTS)
            assert caught.value.strerror == kind


@pytest.mark.parametrize("kind", ODD)
def test_a_meta_that_is_no_plain_file_is_a_problem(path: Path, kind: str) -> None:
    ODD[kind](path / layout.META)
    with pytest.raises(InvalidCheckpointError) as caught:
        open_checkpoint(path)
    (problem,) = caught.value.problems
    assert (problem.code, problem.message) == ("file-kind", f"is {kind}, not a plain file")


def test_a_linked_checkpoint_directory_is_opened(path: Path, tmp_path: Path) -> None:
    (tmp_path / "best").symlink_to(path)
    assert read_meta(tmp_path / "best").epoch == 3


def test_a_path_where_nothing_is_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no such checkpoint") as caught:
        open_checkpoint(tmp_path / "nothing")
    assert caught.value.root == tmp_path
    assert isinstance(caught.value, FileNotFoundError)


def test_a_checkpoint_that_vanishes_while_it_is_opened_is_not_found(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def vanish(name: Any, *args: Any, **kwargs: Any) -> int:
        if Path(name) == path:
            os.rename(path, path.parent / ".trash-x")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", vanish)
    with pytest.raises(CheckpointNotFoundError):
        open_checkpoint(path)


def test_a_directory_without_meta_is_no_checkpoint(path: Path) -> None:
    (path / layout.META).unlink()
    with pytest.raises(InvalidCheckpointError) as caught:
        open_checkpoint(path)
    assert [problem.code for problem in caught.value.problems] == ["not-a-checkpoint"]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
def test_a_pickle_is_answered_with_how_to_convert_it(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"best{suffix}").write_bytes(b"")
    _, (problem,) = try_open(tmp_path / f"best{suffix}")
    assert f"smartcash-format convert {tmp_path}/best{suffix} -o ROOT" in problem.message
    assert problem.fix == f"smartcash-format convert {tmp_path}/best{suffix} -o ROOT"


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidCheckpointError, match="is a file; a checkpoint is a directory"):
        open_checkpoint(tmp_path / "file")


def test_a_path_without_a_name_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidCheckpointError, match=r"^\. is no valid checkpoint"):
        open_checkpoint("")


def test_who_names_a_meta_json_is_told_its_directory(path: Path) -> None:
    _, (problem,) = try_open(path / layout.META)
    assert problem.fix == f"name its directory, {path}"


def test_a_newer_format_is_unsupported_whatever_else_it_holds(path: Path) -> None:
    (path / layout.META).write_text('{"format": "smartcash-checkpoint", "format_version": "2.0"}')
    with pytest.raises(UnsupportedVersionError, match="newer than this reader") as caught:
        open_checkpoint(path)
    assert caught.value.found == "2.0"


def test_a_changed_meta_is_invalid(path: Path) -> None:
    replace_meta(path, epoch=4)
    with pytest.raises(InvalidCheckpointError) as caught:
        open_checkpoint(path)
    assert [problem.code for problem in caught.value.problems] == ["meta-digest-mismatch"]


def test_a_mount_with_small_reads_gives_all_that_is_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (path / WEIGHTS).read_bytes()
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda file, count, at: real(file, min(count, 7_000), at))
    with open_checkpoint(path) as opened:
        stream = opened.raw(WEIGHTS)
        assert stream.read(50_000) == data[:50_000]
        assert stream.tell() == 50_000
        assert stream.read() == data[50_000:]
        assert stream.read(10) == b""


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_failing_disk_passes_through_untouched(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*args: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        open_checkpoint(path)
    assert caught.value.errno == number
