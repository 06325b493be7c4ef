"""Torch files are plain zip files, whatever their size."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import pytest

from smartcash_format.disk.batches import SMALL_BYTES
from smartcash_format.disk.parts import ArchivePart, size_of
from smartcash_format.spec import archive_layout
from smartcash_format.testing import sample
from tests.disk.written import put, storages


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


def test_progress_adds_up_with_archives(directory: Path) -> None:
    seen: list[tuple[int, int]] = []
    part = ArchivePart(name="optimizer.pt", program=b"}.", storages=storages([1000, 5]))
    put(directory, part, progress=lambda *args: seen.append(args))
    assert seen[-1][0] == seen[-1][1] == size_of([part])
