from __future__ import annotations

import ctypes
import errno
import os
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors

from smartcash_format.disk import batches, write
from smartcash_format.disk.batches import SMALL_BYTES, Worker
from smartcash_format.disk.parts import (
    ArchivePart,
    BlobPart,
    Part,
    Piece,
    Plan,
    StorageSource,
    TensorSource,
    WeightsPart,
    size_of,
)
from smartcash_format.disk.placing import write_at
from smartcash_format.disk.publish import Stage, stage
from smartcash_format.disk.write import WrittenFile, write_parts
from smartcash_format.errors import CheckpointWriteError, UnsavableStateError
from smartcash_format.spec import archive_layout, digest
from smartcash_format.testing import sample

NAMES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "BOOL": "bool", "U8": "uint8"}
# Larger and smaller than what is written in one piece, empty, and of odd sizes.
TENSORS = {
    "a.weight": ("F32", (700, 500)),
    "a.bias": ("F32", (3,)),
    "mask": ("BOOL", (5, 1)),
    "empty": ("F32", (0, 7)),
    "scalar": ("F64", ()),
    "half": ("BF16", (1, 2, 3)),
    "größe.🚀": ("U8", (2 * SMALL_BYTES + 1,)),
    "bytes": ("U8", (SMALL_BYTES,)),
}
BYTES = {"F64": 8, "F32": 4, "BF16": 2, "BOOL": 1, "U8": 1}


def size_bytes(name: str) -> int:
    dtype, shape = TENSORS[name]
    size = BYTES[dtype]
    for dim in shape:
        size *= dim
    return size


def data_of(name: str) -> bytes:
    return (name.encode() * (size_bytes(name) // len(name.encode()) + 1))[: size_bytes(name)]


def tensor(name: str, read: Callable[[], Any] | None = None) -> TensorSource:
    dtype, shape = TENSORS[name]
    return TensorSource(
        name=name,
        dtype=dtype,
        shape=shape,
        size_bytes=size_bytes(name),
        read=read or (lambda: data_of(name)),
        measure=lambda data, sizes: [{"l2": float(len(name))} for _ in sizes],
    )


def weights(
    name: str = "model.safetensors", tensors: Sequence[str] = tuple(TENSORS)
) -> WeightsPart:
    return WeightsPart(name=name, tensors=[tensor(t) for t in tensors])


def storages(sizes: Sequence[int]) -> list[StorageSource]:
    return [
        StorageSource(key=str(i), size_bytes=size, read=lambda i=i, size=size: bytes([i]) * size)  # type: ignore[misc]
        for i, size in enumerate(sizes)
    ]


def failing_part(name: str, error: BaseException, after: Callable[[], object]) -> BlobPart:
    class Failing(BlobPart):
        def plan(self) -> Plan:
            def read() -> bytes:
                after()
                raise error

            source = StorageSource(key="0", size_bytes=10, read=read)
            piece = Piece(offset=0, start=0, size_bytes=10, source=source)
            return Plan(name=name, pieces=[piece], tail=None, size_bytes=10)

    return Failing(name=name, data=b"")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "stage").mkdir()
    return tmp_path / "stage"


def put(directory: Path, *parts: Part, **options: Any) -> list[WrittenFile]:
    staged = Stage(directory, directory)
    try:
        return write_parts(staged, parts, **options)
    finally:
        staged.settle()


def test_a_weights_file_is_byte_for_byte_what_safetensors_writes(directory: Path) -> None:
    put(directory, weights())
    kept = {name: ctypes.create_string_buffer(data_of(name), size_bytes(name)) for name in TENSORS}
    expected = safetensors.serialize(
        {
            name: safetensors.TensorSpec(
                dtype=NAMES[dtype],
                shape=list(shape),
                data_ptr=ctypes.addressof(kept[name]),
                data_len=size_bytes(name),
            )
            for name, (dtype, shape) in TENSORS.items()
        },
        {"format": "pt"},
    )
    assert (directory / "model.safetensors").read_bytes() == expected


def test_every_digest_is_that_of_the_bytes_on_the_disk(directory: Path) -> None:
    parts: list[Part] = [
        weights(),
        ArchivePart(name="optimizer.pt", program=b"}.", storages=storages([5, 0, 3 * SMALL_BYTES])),
        BlobPart(name="tensors.json", data=b"{}"),
        BlobPart(name="empty", data=b""),
    ]
    written = put(directory, *parts)
    assert [file.name for file in written] == [part.name for part in parts]
    for file in written:
        data = (directory / file.name).read_bytes()
        assert (file.size_bytes, file.digest) == (len(data), digest.digest_of(data))
    assert sum(file.size_bytes for file in written) == size_of(parts)
    assert {name: found.digest for name, found in written[0].tensors.items()} == {
        name: digest.digest_of(data_of(name)) for name in TENSORS
    }
    assert written[0].tensors["scalar"].statistics == {"l2": 6.0}


def test_the_same_state_gives_the_same_bytes(directory: Path) -> None:
    for name in ("one.pt", "two.pt"):
        put(directory, ArchivePart(name=name, program=b"}.", storages=storages([5, 100])))
    assert (directory / "one.pt").read_bytes() == (directory / "two.pt").read_bytes()


def test_a_source_is_measured_once_and_read_once_if_it_has_a_byte(directory: Path) -> None:
    calls: list[str] = []

    def counted(name: str) -> TensorSource:
        def read() -> bytes:
            calls.append(f"read {name}")
            return data_of(name)

        def measure(data: Any, sizes: Sequence[int]) -> list[dict[str, float]]:
            calls.append(f"measure {name}")
            assert (bytes(data), sizes) == (data_of(name), [size_bytes(name)])
            return [{"l2": 0.0}]

        return tensor(name, read)._replace(measure=measure)

    put(directory, WeightsPart(name="model.safetensors", tensors=[counted(t) for t in TENSORS]))
    expected = [f"read {name}" for name in TENSORS if size_bytes(name)]
    assert sorted(calls) == sorted([*expected, *(f"measure {name}" for name in TENSORS)])


def test_an_archive_is_a_plain_zip_file_with_aligned_records(directory: Path) -> None:
    sizes = [0, 1, 63, 64, 65, SMALL_BYTES, 2 * SMALL_BYTES + 7]
    put(directory, ArchivePart(name="optimizer.pt", program=b"}.", storages=storages(sizes)))
    with zipfile.ZipFile(directory / "optimizer.pt") as archive:
        assert archive.testzip() is None
        assert archive.read("archive/data.pkl") == b"}."
        assert archive.read("archive/version") == b"3\n"
        for i, size in enumerate(sizes):
            assert archive.read(f"archive/data/{i}") == bytes([i]) * size
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        raw = (directory / "optimizer.pt").read_bytes()
        for info in archive.infolist():
            assert data_start(raw, info.header_offset) % 64 == 0


def data_start(raw: bytes, header: int) -> int:
    """Where a record's data begins, from its local header as zip's specification has it."""
    name, extra = raw[header + 26 : header + 28], raw[header + 28 : header + 30]
    return header + 30 + int.from_bytes(name, "little") + int.from_bytes(extra, "little")


@pytest.mark.torch
@pytest.mark.parametrize("mmap", [True, False])
def test_an_archive_is_loaded_by_torch(tmp_path: Path, mmap: bool) -> None:
    import torch

    path = sample.write_sample(tmp_path, epoch=1, floats=3 * SMALL_BYTES)
    state = torch.load(path / "optimizer.pt", weights_only=True, mmap=mmap)
    moments = [state["state"][i]["exp_avg"] for i in range(3)]
    assert [moment.shape for moment in moments] == [(SMALL_BYTES,)] * 3
    with zipfile.ZipFile(path / "optimizer.pt") as archive:
        for i, moment in enumerate(moments):
            assert archive.read(f"archive/data/{i}") == moment.numpy().tobytes()


GIB = 1 << 30
LAYOUTS = {
    "small": [10, 20],
    "last fits": [4 * GIB - 1000, 5],
    "size at the mark": [(1 << 32) - 2, 7],
    "size on the mark": [(1 << 32) - 1, 7],
    "size past the mark": [1 << 32, 7],
    "offset past the mark": [3 * GIB, 3 * GIB, 9],
    "all past the mark": [5 * GIB, 6 * GIB, 1],
    "many": [1] * 66_000,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_archive_of_any_size_is_read_by_zipfile_where_it_was_placed(
    tmp_path: Path, name: str
) -> None:
    # The data are holes in the file: only headers, one record and the directory are written.
    sizes = [*LAYOUTS[name], len(archive_layout.VERSION_RECORD)]
    names = [f"data/{i}" for i in range(len(sizes) - 1)] + [archive_layout.VERSION]
    placed = archive_layout.place(list(zip(names, sizes, strict=True)))
    crcs = [zlib.crc32(bytes(size)) if size < 100 else 0 for size in sizes]
    crcs[-1] = zlib.crc32(archive_layout.VERSION_RECORD)
    path = tmp_path / "large.zip"
    with open(path, "wb") as file:
        for record, crc in zip(placed, crcs, strict=True):
            file.seek(record.offset)
            file.write(record.local_header(crc))
        file.seek(placed[-1].start)
        file.write(archive_layout.VERSION_RECORD)
        tail = archive_layout.tail(placed, crcs)
        file.write(tail)
        assert len(tail) == archive_layout.tail_size(placed)
    with zipfile.ZipFile(path) as archive:
        found = [(info.filename, info.file_size, info.CRC) for info in archive.infolist()]
        assert found == [(f"archive/{n}", s, c) for n, s, c in zip(names, sizes, crcs, strict=True)]
        for info, record in list(zip(archive.infolist(), placed, strict=True))[-4:]:
            assert (info.header_offset, record.start % 64) == (record.offset, 0)
            with archive.open(info) as stream:  # checks the local header against the directory
                assert stream.read(1) in (b"\0", b"3")
    if len(placed) < 10:
        _torch_finds(path, placed)


def _torch_finds(path: Path, placed: list[archive_layout.Placed]) -> None:
    torch = pytest.importorskip("torch")
    reader = torch._C.PyTorchFileReader(str(path))
    for record in placed:
        name = record.name.decode().removeprefix("archive/")
        assert reader.get_record_offset(name) == record.start


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


def test_progress_adds_up_and_comes_one_at_a_time(directory: Path) -> None:
    seen: list[tuple[int, int]] = []
    busy = threading.Lock()

    def progress(done: int, total: int) -> None:
        assert busy.acquire(blocking=False)
        seen.append((done, total))
        busy.release()

    parts: list[Part] = [weights(f"w{i}.safetensors") for i in range(6)]
    put(directory, *parts, progress=progress)
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {size_of(parts)}
    assert seen[-1][0] == size_of(parts)


def test_what_was_written_is_told_by_and_by(directory: Path) -> None:
    told: list[int] = []
    parts = [weights(f"w{i}.safetensors") for i in range(2)]
    written = put(directory, *parts, wrote=told.append)
    assert sum(told) == sum(file.size_bytes for file in written)
    assert max(told) < sum(told)


def test_progress_adds_up_with_archives(directory: Path) -> None:
    seen: list[tuple[int, int]] = []
    part = ArchivePart(name="optimizer.pt", program=b"}.", storages=storages([1000, 5]))
    put(directory, part, progress=lambda *args: seen.append(args))
    assert seen[-1][0] == seen[-1][1] == size_of([part])


class Copies:
    """Counts the copies of tensors that are alive at once, over all files."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.alive = 0
        self.most = 0

    def make(self, size: int) -> Any:
        with self.lock:
            self.alive += size
            self.most = max(self.most, self.alive)
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
    copies = Copies()
    sizes = [SMALL_BYTES, 100, SMALL_BYTES, 3_000] * 5
    put(directory, *(copies.part(file, sizes) for file in FILES))
    assert SMALL_BYTES < copies.most <= 3 * SMALL_BYTES
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


def test_the_threads_of_a_file_stay_close(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed, read, apart = [0], [0], [0]
    real = write._Hashing.take

    def take(self: write._Hashing, batch: Any) -> None:
        real(self, batch)
        hashed[0] += 1

    def data() -> bytes:
        read[0] += 1
        apart[0] = max(apart[0], read[0] - hashed[0])
        return bytes(SMALL_BYTES)

    monkeypatch.setattr(write._Hashing, "take", take)
    many = [
        TensorSource(
            name=f"{i:03}", dtype="U8", shape=(SMALL_BYTES,), size_bytes=SMALL_BYTES, read=data
        )
        for i in range(50)
    ]
    put(directory, WeightsPart(name="model.safetensors", tensors=many))
    # Those that wait, the one being hashed and the one just read.
    assert apart[0] <= batches.AHEAD + 2


def test_nothing_to_write_writes_nothing(directory: Path) -> None:
    assert put(directory) == []
    assert os.listdir(directory) == []


def test_write_at_writes_its_buffers_one_after_the_other(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    write_at(descriptor, 3, [b"ab", memoryview(b"cd"), b""])
    os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"\0\0\0abcd"


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


def test_a_thread_that_cannot_be_started_leaves_none_behind(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Second(Worker):
        made = 0

        def __init__(self, *arguments: Any) -> None:
            Second.made += 1
            if Second.made == 2:
                raise RuntimeError("can't start new thread")
            super().__init__(*arguments)

    monkeypatch.setattr(write, "Worker", Second)
    size = write.ALONE_BYTES + 1
    large = TensorSource("w", "U8", (size,), size, partial(bytes, size))
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="can't start"):
        put(directory, WeightsPart(name="model.safetensors", tensors=[large]))
    assert threading.active_count() == before
