"""Reading at a position: whole, in pieces, on several threads, and when there is less than said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartcash_format.disk import positioned
from smartcash_format.disk.positioned import (
    DescriptorStream,
    read_chunks,
    read_into,
    read_scattered,
)

DATA = bytes(range(256)) * 40 + b"end"


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(DATA)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("held", [False, True])
def test_pieces_are_all_bytes_in_order(
    descriptor: int, monkeypatch: pytest.MonkeyPatch, threads: int, held: bool
) -> None:
    monkeypatch.setattr(positioned, "CHUNK_BYTES", 1000)
    into = memoryview(bytearray(len(DATA))) if held else None
    pieces = [bytes(p) for p in read_chunks(descriptor, len(DATA), into=into, threads=threads)]
    assert b"".join(pieces) == DATA
    assert max(map(len, pieces)) == 1000 * threads
    assert into is None or into == DATA


def test_a_mount_that_gives_little_at_a_time_is_read_on(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, into, at: real(file, [into[0][:3]], at))
    target = bytearray(50)
    read_into(descriptor, memoryview(target), 10)
    assert target == DATA[10:60]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_file_that_became_shorter_is_an_error(descriptor: int, threads: int) -> None:
    with pytest.raises(OSError, match="became shorter"):
        list(read_chunks(descriptor, len(DATA) + 1, threads=threads))
    with pytest.raises(OSError, match="became shorter"):
        read_into(descriptor, memoryview(bytearray(5)), len(DATA) - 4)


def test_nothing_has_no_pieces(descriptor: int) -> None:
    assert list(read_chunks(descriptor, 0)) == []


def test_what_is_read_into_places_passes_in_order_too(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(positioned, "CHUNK_BYTES", 1000)
    sizes = {700: 2500, 0: 10, 3200: 100, 9000: 0, len(DATA) - 40: 40}
    places = [(begin, memoryview(bytearray(size))) for begin, size in sizes.items()]
    pieces = [bytes(piece) for piece in read_scattered(descriptor, len(DATA), places)]
    assert b"".join(pieces) == DATA
    assert max(map(len, pieces)) == 1000
    for begin, memory in places:
        assert memory == DATA[begin : begin + len(memory)]
    with pytest.raises(OSError, match="became shorter"):
        list(read_scattered(descriptor, len(DATA) + 1, places))


def test_a_stream_tells_what_it_gave(descriptor: int) -> None:
    parsed: list[tuple[int, bytes]] = []
    stream = DescriptorStream(descriptor, parsed)
    stream.seek(5)
    first = stream.read(10)
    target = bytearray(3)
    stream.readinto(memoryview(target))
    assert parsed == [(5, first), (15, bytes(target))]
