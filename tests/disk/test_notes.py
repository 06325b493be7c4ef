"""Small files beside checkpoints are whole, or appended to in one write."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from smartcash_format.disk.notes import append_note, read_note, remove_note, replace_note, set_aside


def test_a_note_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "note"
    replace_note(path, b"one")
    replace_note(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["note"]


def test_a_note_that_cannot_be_replaced_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "note"
    replace_note(path, b"one")

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="Input/output"):
        replace_note(path, b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["note"]


def test_removing_a_note_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    remove_note(tmp_path / "note")
    replace_note(tmp_path / "note", b"")
    remove_note(tmp_path / "note")
    assert os.listdir(tmp_path) == []


def test_the_last_bytes_of_a_long_note_are_read(tmp_path: Path) -> None:
    (tmp_path / "note").write_bytes(b"0123456789")
    assert read_note(tmp_path / "note", 4) == b"0123"
    assert read_note(tmp_path / "note", 4, from_end=True) == b"6789"
    assert read_note(tmp_path / "note", 99, from_end=True) == b"0123456789"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_a_link_and_a_directory_are_no_notes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "target").write_bytes(b"outside")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "directory").mkdir()
    for name in ("pipe", "link", "directory"):
        with pytest.raises(OSError):  # noqa: PT011 - the system chooses the errno
            read_note(tmp_path / name, 9)
    with pytest.raises(OSError):  # noqa: PT011
        append_note(tmp_path / "link", b"line\n")
    assert (tmp_path / "target").read_bytes() == b"outside"


def lowest_free_descriptor() -> int:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def test_a_directory_in_the_place_of_a_note_is_named_and_not_left_open(tmp_path: Path) -> None:
    (tmp_path / "note").mkdir()
    free = lowest_free_descriptor()
    with pytest.raises(OSError, match="is a directory") as caught:
        read_note(tmp_path / "note", 9)
    assert caught.value.filename == str(tmp_path / "note")
    assert lowest_free_descriptor() == free


@pytest.mark.parametrize("links", [True, False])
def test_what_is_set_aside_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "note").write_bytes(b"new")
    (tmp_path / "taken").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        set_aside(tmp_path / "note", tmp_path / "taken")
    set_aside(tmp_path / "note", tmp_path / "aside")
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert left == {"taken": b"old", "aside": b"new"}


def test_an_appended_line_after_a_torn_one_starts_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "note"
    append_note(path, b"one\n")
    path.write_bytes(path.read_bytes() + b"to")
    append_note(path, b"three\n")
    assert path.read_bytes() == b"one\nto\nthree\n"


def test_a_line_of_which_only_a_part_was_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = os.write
    monkeypatch.setattr(os, "write", lambda file, data: honest(file, data[:3]))
    with pytest.raises(OSError, match="only a part"):
        append_note(tmp_path / "note", b"a line\n")


def test_lines_of_many_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "note"

    def write(number: int) -> None:
        for _ in range(50):
            append_note(path, bytes([65 + number]) * 999 + b"\n")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A writer that sees another's line half-way puts an empty line before its own: readers skip it.
    lines = [line for line in path.read_bytes().splitlines() if line]
    assert len(lines) == 200
    assert {(len(line), len(set(line))) for line in lines} == {(999, 1)}
