"""An archive with the headers of one that is known lies as that one did, and no other does."""

from __future__ import annotations

import io
import random

import pytest

from smartcash_format.spec import archive as archives
from smartcash_format.spec import known_layouts
from smartcash_format.spec.archive import Archive, read_archive
from smartcash_format.spec.known_layouts import forget_layouts
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.zip_headers import Record
from tests.spec.torch_files import PROTO, STOP, file_of, patched

PROGRAM = PROTO + b"N" + STOP


@pytest.fixture(autouse=True)
def nothing_is_known() -> None:
    forget_layouts()


def made(value: int, count: int = 120, more: int = 0) -> bytes:
    """A file whose storages are full of one byte: of another it has other checksums alone."""
    return file_of(
        PROGRAM, {str(key): bytes([value]) * (key % 7 + 1 + more) for key in range(count)}
    )


def read(file: bytes) -> tuple[Archive | None, tuple[Problem, ...]]:
    return read_archive(io.BytesIO(file), len(file), where="optimizer.pt")


def read_anew(file: bytes) -> tuple[Archive | None, tuple[Problem, ...]]:
    forget_layouts()
    return read(file)


@pytest.fixture
def sorted_out(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many entries each archive had that was not known."""
    counts: list[int] = []
    usual = archives._sorted_out

    def counted(records: dict[bytes, Record]) -> known_layouts.Layout:
        counts.append(len(records))
        return usual(records)

    monkeypatch.setattr(archives, "_sorted_out", counted)
    return counts


def test_headers_that_differ_in_checksums_are_looked_at_once(sorted_out: list[int]) -> None:
    first, *others = [read(made(value)) for value in range(4)]
    assert first[0] is not None
    assert len(first[0].storages) == 120
    assert others == [first] * 3
    assert sorted_out == [123]
    assert read_anew(made(3)) == first


def test_a_checksum_that_one_header_alone_has_is_found(sorted_out: list[int]) -> None:
    assert read(made(1))[0] is not None
    other = made(2)
    for mark, place in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16)):
        at = other.rindex(mark) + place
        for byte in range(4):
            damaged = patched(other, at + byte, bytes([other[at + byte] ^ 1]))
            found, problems = read(damaged)
            assert found is None
            assert [problem.code for problem in problems] == ["archive-structure"]


def test_whatever_else_is_changed_is_found_as_in_an_archive_that_is_not_known() -> None:
    whole = made(1)
    chance = random.Random(7)
    starts = [
        at for at in range(len(whole)) if whole.startswith((b"PK\x03\x04", b"PK\x01\x02"), at)
    ]
    answers = []
    for _ in range(400):
        at = chance.choice(starts) + chance.randrange(70)
        damaged = patched(made(2), min(at, len(whole) - 1), chance.randbytes(1))
        answers.append(anew := read_anew(damaged))
        forget_layouts()
        assert read(whole)[0] is not None
        assert read(damaged) == anew
    assert 50 < sum(found is None for found, _ in answers) < 390


class Shrinking(io.BytesIO):
    """A file that has so many bytes only once the directory at its end was read."""

    def __init__(self, file: bytes, left: int) -> None:
        super().__init__(file)
        self.left = left
        self.reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reads += 1
        # The beginning of the file, the end of the directory, the directory.
        if self.reads == 3:
            self.truncate(self.left)
        return data


def test_a_file_that_becomes_shorter_is_found_wherever_it_ends() -> None:
    whole = made(1)
    last = whole.rindex(b"PK\x03\x04")
    for left in range(last - 200, last + 40):
        forget_layouts()
        assert read(whole)[0] is not None
        found, problems = read_archive(Shrinking(whole, left), len(whole), where="optimizer.pt")
        assert found is None
        assert [problem.code for problem in problems] == ["archive-size"]


def test_an_archive_of_other_sizes_is_another_one(sorted_out: list[int]) -> None:
    same_directory = [made(1), made(1, more=1), made(1, more=64)]
    found = [read(file) for file in same_directory]
    assert len(sorted_out) == 3
    assert [read_anew(file) for file in same_directory] == found


def test_four_are_kept_and_neither_short_nor_long_ones(
    sorted_out: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [made(1, count) for count in range(100, 105)]
    for file in files:
        read(file)
    sorted_out.clear()
    for file in reversed(files):
        read(file)
    assert sorted_out == [103]
    forget_layouts()
    sorted_out.clear()
    for _ in range(2):
        read(made(1, 20))
    assert len(sorted_out) == 2
    monkeypatch.setattr(known_layouts, "_KEPT_BYTES", 1_000)
    for _ in range(2):
        read(made(1))
    assert len(sorted_out) == 4


def test_an_archive_with_a_fault_is_not_kept() -> None:
    whole = made(1)
    at = whole.index(b"little")
    damaged = patched(whole, at, b"big   ")
    assert read(damaged)[0] is None
    assert known_layouts._layouts == {}
    assert read(whole)[0] is not None
    # The same headers and another content.
    assert read(damaged)[0] is None
