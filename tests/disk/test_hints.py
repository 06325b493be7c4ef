from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import hints, write
from smartcash_format.testing import sample

SIZE = 3 << 20


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="these are calls of Linux")
def test_blocks_are_taken_and_the_file_is_as_long_as_before(descriptor: int) -> None:
    os.write(descriptor, b"abc")
    hints.reserve(descriptor, SIZE)
    facts = os.fstat(descriptor)
    assert facts.st_size == 3
    assert facts.st_blocks * 512 >= SIZE, "this file system has no fallocate"


def test_what_was_written_stays_as_it_is(descriptor: int) -> None:
    os.write(descriptor, b"a" * SIZE)
    hints.start_writing(descriptor, 0, SIZE)
    assert os.pread(descriptor, SIZE + 1, 0) == b"a" * SIZE


def test_an_error_of_a_hint_is_nobodys(tmp_path: Path) -> None:
    closed = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.close(closed)
    hints.reserve(closed, SIZE)
    hints.start_writing(closed, 0, SIZE)


@pytest.mark.parametrize("there", [True, False])
def test_a_large_file_is_announced_and_begun_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    told: list[tuple[str, Any]] = []
    monkeypatch.setattr(write, "BEGUN_BYTES", 1 << 20)
    monkeypatch.setattr(
        hints,
        "_function",
        lambda name: (lambda *args: told.append((name, args))) if there else None,
    )
    path = sample.write_sample(tmp_path, epoch=1, floats=1 << 20)
    sizes = [size.value for name, (_, _, _, size) in told if name == "fallocate"]
    begun = [(at.value, size.value) for name, (_, at, size, _) in told if name == "sync_file_range"]
    if not there:
        assert told == []
        return
    assert (path / "model.safetensors").stat().st_size in sizes
    assert begun
    assert all(size >= 1 << 20 for _, size in begun)
