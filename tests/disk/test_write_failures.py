"""The first failure is raised, and nothing of a stage is left."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import write
from smartcash_format.disk.batches import SMALL_BYTES, Worker
from smartcash_format.disk.parts import ArchivePart, Part, TensorSource, WeightsPart
from smartcash_format.disk.publish import stage
from smartcash_format.disk.write import write_parts
from smartcash_format.errors import CheckpointWriteError, UnsavableStateError
from smartcash_format.spec import digest
from tests.disk.written import failing_part, put, storages, tensor, weights


def test_a_source_that_changes_its_size_is_refused_and_leaves_no_stage(tmp_path: Path) -> None:
    part = WeightsPart(
        name="model.safetensors", tensors=[tensor("a.bias", lambda: bytes(16)), tensor("scalar")]
    )
    with pytest.raises(UnsavableStateError, match="16 bytes instead of 12") as caught:
        save(tmp_path, part)
    assert caught.value.where == "a.bias"
    assert os.listdir(tmp_path) == []


def save(root: Path, *parts: Part) -> None:
    with stage(root / "epoch-0001-aa") as staged:
        write_parts(staged, parts)
        staged.publish()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_first_failure_is_the_one_raised_whatever_part_it_was(
    tmp_path: Path, place: int
) -> None:
    error = RuntimeError("CUDA error: device-side assert triggered")
    failed = threading.Event()

    def slow(size: int) -> bytes:
        failed.wait()
        return bytes(size)

    slow_tensors = [
        TensorSource(name=str(i), dtype="U8", shape=(10,), size_bytes=10, read=lambda: slow(10))
        for i in range(5)
    ]
    parts: list[Part] = [
        WeightsPart(name=f"w{i}.safetensors", tensors=slow_tensors) for i in range(3)
    ]
    parts[place] = failing_part("failing", error, failed.set)
    with pytest.raises(RuntimeError) as caught:
        save(tmp_path, *parts)
    assert caught.value is error
    assert os.listdir(tmp_path) == []


def test_a_failure_stops_the_other_parts(directory: Path) -> None:
    reads: list[int] = []
    started, failed = threading.Event(), threading.Event()

    def read(i: int) -> bytes:
        reads.append(i)
        started.set()
        failed.wait()
        return bytes(SMALL_BYTES)

    many = [
        TensorSource(
            name=f"{i:03}", dtype="U8", shape=(SMALL_BYTES,), size_bytes=SMALL_BYTES,
            read=lambda i=i: read(i),  # type: ignore[misc]
        )
        for i in range(100)
    ]  # fmt: skip

    def fail() -> None:
        started.wait()
        # Others run on only once the failure is known, else the test would race with them.
        threading.Timer(0.2, failed.set).start()

    failing = failing_part("failing", OSError(errno.EIO, "broken"), fail)
    with pytest.raises(OSError, match="broken"):
        put(directory, WeightsPart(name="model.safetensors", tensors=many), failing)
    assert len(reads) < 100


@pytest.mark.parametrize("call", ["pwrite", "fsync", "close", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failing_disk_is_raised_with_its_errno_and_leaves_no_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    real = getattr(os, call)

    def fail(*args: Any, **kwargs: Any) -> Any:
        inside = call != "open" or str(args[0]).endswith(".safetensors")
        if inside and threading.current_thread() is not threading.main_thread():
            if call == "close":
                real(*args)  # NFS reports what could not be stored when a file is closed
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(CheckpointWriteError) as caught:
        save(tmp_path, weights(), ArchivePart(name="o.pt", program=b"}.", storages=storages([9])))
    assert caught.value.errno == number
    assert os.listdir(tmp_path) == []


def test_short_writes_are_continued(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:65_536], offset))
    (written,) = put(directory, weights())
    assert digest.digest_of((directory / "model.safetensors").read_bytes()) == written.digest


def test_a_write_that_writes_nothing_is_an_error(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: 0)
    with pytest.raises(OSError, match="wrote nothing"):
        put(directory, weights())


@pytest.mark.parametrize("what", ["measure", "hash"])
def test_the_failure_of_a_thread_is_raised_when_there_is_one_file_only(
    directory: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fail(*_: object) -> Any:
        raise ZeroDivisionError(what)

    read = partial(bytes, SMALL_BYTES)
    many = [
        TensorSource(f"{i:03}", "U8", (SMALL_BYTES,), SMALL_BYTES, read,
                     measure=fail if what == "measure" else None)
        for i in range(40)
    ]  # fmt: skip
    if what == "hash":
        monkeypatch.setattr(write._Hashing, "take", fail)
    for _ in range(20):
        with pytest.raises(ZeroDivisionError):
            put(directory, WeightsPart(name="model.safetensors", tensors=many))
        os.remove(directory / "model.safetensors")


@pytest.mark.parametrize("slow", ["_Hashing", "_Tensors"])
def test_an_interrupt_waits_for_the_threads_of_a_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    # Else they would go on writing to a descriptor whose number is that of another file by then.
    size = write.ALONE_BYTES + 1
    large = TensorSource("w", "U8", (size,), size, partial(bytes, size))
    used: list[int] = []
    closed: list[int] = []
    real, close = getattr(write, slow).take, os.close

    def take(self: Any, batch: Any) -> None:
        if batch.pieces[-1].source is large:
            time.sleep(0.2)  # until who writes the file waits for its threads
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            used.append(len(closed))
        real(self, batch)

    monkeypatch.setattr(getattr(write, slow), "take", take)

    def noted(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    monkeypatch.setattr(os, "close", noted)
    with pytest.raises(KeyboardInterrupt):
        put(directory, WeightsPart(name="model.safetensors", tensors=[large]))
    assert (used, len(closed)) == ([0], 1)


@pytest.mark.parametrize("last", [1, 2])
def test_where_no_thread_can_be_started_a_file_is_written_without(
    directory: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    class Few(Worker):
        made = 0

        def __init__(self, *arguments: Any) -> None:
            Few.made += 1
            if Few.made >= last:
                raise RuntimeError("can't start new thread")
            super().__init__(*arguments)

    size = write.ALONE_BYTES + 1
    large = TensorSource("w", "U8", (size,), size, partial(bytes, size))
    part = WeightsPart(name="model.safetensors", tensors=[large])
    before = threading.active_count()
    due = put(directory, part)
    os.remove(directory / "model.safetensors")
    monkeypatch.setattr(write, "Worker", Few)
    assert put(directory, part) == due
    assert Few.made == last
    assert threading.active_count() == before
