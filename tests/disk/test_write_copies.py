"""Copies of tensors share one allowance over all files."""

from __future__ import annotations

import ctypes
import errno
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import write
from smartcash_format.disk.batches import SMALL_BYTES
from smartcash_format.disk.parts import ArchivePart, Part, StorageSource, TensorSource, WeightsPart
from tests.disk.written import put


class Copies:
    """Counts the copies of tensors that are alive at once, over all files.

    The first `together` of them are made at once, or not at all.
    """

    def __init__(self, together: int = 0) -> None:
        self.lock = threading.Lock()
        self.first = iter(range(together))
        self.together = threading.Barrier(max(1, together), timeout=60)
        self.alive = 0
        self.most = 0

    def make(self, size: int) -> Any:
        with self.lock:
            self.alive += size
            self.most = max(self.most, self.alive)
            is_early = next(self.first, None) is not None
        if is_early:
            self.together.wait()
        copy = (ctypes.c_ubyte * size)()
        weakref.finalize(copy, self.free, size)
        return copy

    def free(self, size: int) -> None:
        with self.lock:
            self.alive -= size

    def part(self, file: str, sizes: Sequence[int]) -> Part:
        if file.endswith(".pt"):
            kept = [
                StorageSource(
                    key=str(i),
                    size_bytes=size,
                    copies=True,
                    read=lambda size=size: self.make(size),  # type: ignore[misc]
                )
                for i, size in enumerate(sizes)
            ]
            return ArchivePart(name=file, program=b"}.", storages=kept)
        tensors = [
            TensorSource(
                name=f"{i:03}", dtype="U8", shape=(size,), size_bytes=size, copies=True,
                read=lambda size=size: self.make(size),  # type: ignore[misc]
            )
            for i, size in enumerate(sizes)
        ]  # fmt: skip
        return WeightsPart(name=file, tensors=tensors)


FILES = ("a.safetensors", "b.safetensors", "c.pt", "d.pt")


def test_copies_share_one_allowance_over_all_files(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "COPIED_BYTES", 3 * SMALL_BYTES)
    copies = Copies(together=2)
    sizes = [SMALL_BYTES, 100, SMALL_BYTES, 3_000] * 5
    put(directory, *(copies.part(file, sizes) for file in FILES))
    assert 2 * SMALL_BYTES <= copies.most <= 3 * SMALL_BYTES
    assert copies.alive == 0


def test_a_copy_beyond_the_allowance_is_in_memory_alone(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "COPIED_BYTES", 2 * SMALL_BYTES)
    copies = Copies()
    largest = 4 * SMALL_BYTES
    put(directory, *(copies.part(file, [largest, 500, largest]) for file in FILES))
    assert copies.most <= largest + 2 * SMALL_BYTES


def test_a_failure_lets_those_go_on_that_wait_for_memory(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "COPIED_BYTES", SMALL_BYTES)
    copies = Copies()

    def fail(self: Any, batch: Any) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(write._Hashing, "take", fail)
    with pytest.raises(OSError, match="broken"):
        put(directory, *(copies.part(file, [SMALL_BYTES] * 20) for file in FILES))
