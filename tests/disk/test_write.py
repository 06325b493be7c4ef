from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors

from smartcash_format.disk import batches, write
from smartcash_format.disk.batches import SMALL_BYTES
from smartcash_format.disk.parts import (
    ArchivePart,
    BlobPart,
    Part,
    TensorSource,
    WeightsPart,
    size_of,
)
from smartcash_format.disk.placing import write_at
from smartcash_format.spec import digest
from tests.disk.written import NAMES, TENSORS, data_of, put, size_bytes, storages, tensor, weights


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
