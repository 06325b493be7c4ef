from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.spec import archive_layout, limits
from smartcash_format.spec.archive import Archive, read_archive
from smartcash_format.spec.problems import Problem
from tests.spec.torch_files import (
    FIXED,
    PROTO,
    RECORDS,
    STOP,
    WHERE,
    code_of,
    container,
    file_of,
    patched,
    scan,
    storage,
    tensor,
)

ONE = file_of(PROTO + tensor(storage()) + STOP, {"0": b"\0\0\x80?"})


def read(file: bytes) -> tuple[Archive | None, tuple[Problem, ...]]:
    return read_archive(io.BytesIO(file), len(file), where=WHERE)


def zipped(records: dict[str, bytes], folder: str = "archive", **options: Any) -> bytes:
    """A container made by Python's zipfile, which pads nothing."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", **options) as archive:
        for name, data in records.items():
            archive.writestr(f"{folder}/{name}" if folder else name, data)
    return target.getvalue()


def test_a_file_laid_out_as_this_package_does_is_read() -> None:
    archive, problems = read(ONE)
    assert problems == ()
    assert archive is not None
    program, stored = archive.program, archive.storages["0"]
    assert ONE[program.begin :][: program.size_bytes].startswith(PROTO)
    assert ONE[stored.begin :][: stored.size_bytes] == b"\0\0\x80?"
    assert stored.begin % 64 == 0


def test_a_file_without_filler_is_read() -> None:
    assert code_of(zipped(RECORDS)) is None
    assert code_of(zipped(RECORDS, folder="épöche 3 (copy)")) is None


def test_no_storage_is_read() -> None:
    class Stream(io.BytesIO):
        asked = 0

        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            self.asked += size
            return super().read(size)

    file = file_of(PROTO + tensor(storage(numel=1 << 20)) + STOP, {"0": bytes(4 << 20)})
    stream = Stream(file)
    archive, problems = read_archive(stream, len(file), where=WHERE)
    assert archive is not None
    assert problems == ()
    assert stream.asked < 2_000


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (b"", "no torch file"),
        (b"PK", "no torch file"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "before 1.6"),
        (b"\x80\x04\x95\x00", "before 1.6"),
        (bytes(257) + b"ustar\x0000" + bytes(1000), "tar"),
        (b"{}", "no torch file"),
        (b"GIF89a", "GIF89a"),
        (zipped({"code/__torch__.py": b"", **RECORDS}), "TorchScript"),
        (zipped({**RECORDS, "constants.pkl": b"."}), "TorchScript"),
    ],
)
def test_another_format_is_named(file: bytes, says: str) -> None:
    assert code_of(file) == "archive-format"
    assert says in read(file)[1][0].message


@pytest.mark.parametrize(
    "records",
    [
        {},
        FIXED,
        {"data.pkl": RECORDS["data.pkl"], "version": b"3\n"},
        {"data.pkl": RECORDS["data.pkl"], "byteorder": b"little"},
        {**RECORDS, "byteorder": b"big"},
        {**RECORDS, "byteorder": b"little\n"},
        {**RECORDS, "version": b"11\n"},
        {**RECORDS, "version": b"3" * 1_000},
        {**RECORDS, ".format_version": b"2"},
        {**RECORDS, ".storage_alignment": b"0"},
        {**RECORDS, "extra": b""},
        {**RECORDS, "data/x": b""},
        {**RECORDS, "data/00": b""},
        {**RECORDS, "data/": b""},
        {**RECORDS, "data/0/1": b""},
        {**RECORDS, "data.pkl/": b""},
        {**RECORDS, "../up": b""},
        {**RECORDS, "DATA.PKL": b""},
        {**RECORDS, ".data/0": b""},
    ],
)
def test_records_that_torch_does_not_write_are_refused(records: dict[str, bytes]) -> None:
    expected = "archive-record" if records else "archive-format"
    assert code_of(zipped(records)) == expected


def test_a_name_with_line_ends_is_no_row_of_names() -> None:
    file = container(
        [
            *RECORDS.items(),
            ("data/last", b""),
            ("data/0", b""),
            ("data/1\narchive/data/2", b""),
        ]
    )
    assert code_of(file) == "archive-record"


def test_records_stand_in_one_folder() -> None:
    assert code_of(zipped(RECORDS, folder="")) == "archive-record"
    assert code_of(zipped({**RECORDS, "../other/data/0": b""})) == "archive-record"
    both = {f"a/{name}": data for name, data in RECORDS.items()} | {"b/data/0": b""}
    assert code_of(zipped(both, folder="")) == "archive-record"
    assert code_of(zipped(RECORDS, folder="a\nb")) == "archive-record"


def test_the_fixed_records_that_torch_adds_are_read() -> None:
    extra = {
        ".format_version": b"1",
        ".storage_alignment": b"64",
        ".data/serialization_id": b"1268567396964646261100485743073064624714",
    }
    assert code_of(zipped({**RECORDS, **extra})) is None


def test_compressed_entries_are_refused() -> None:
    records = {**RECORDS, "data/0": bytes(100_000)}
    file = zipped(records, compression=zipfile.ZIP_DEFLATED)
    assert code_of(file) == "archive-compressed"


def test_encrypted_entries_are_refused() -> None:
    file = bytearray(ONE)
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = file.index(mark)
        file[at + flags] |= 1
    (problem,) = read(bytes(file))[1]
    assert problem.code == "archive-compressed"
    assert "encrypted" in problem.message


def central(file: bytes, name: bytes) -> int:
    """Where the directory's entry of a record begins."""
    return file.rindex(name, file.rindex(b"PK\x05\x06") - 1_000) - 46


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a local name": lambda f: f.replace(b"archive/version", b"archive/Version", 1),
    "a local flag": lambda f: patched(f, 6, b"\x08"),
    "a local method": lambda f: patched(f, 8, b"\x08"),
    "a local time": lambda f: patched(f, 10, b"\x01"),
    "a local checksum": lambda f: patched(f, 14, b"\x01\x02\x03\x04"),
    "a local size": lambda f: patched(f, 22, b"\0"),
    "a local packed size": lambda f: patched(f, 18, b"\0"),
    "a local name length": lambda f: patched(f, 26, b"\x0f"),
    "a local extra length": lambda f: patched(f, 28, b"\x05"),
    "a local extra field": lambda f: f.replace(b"FB", b"up", 1),
    "a local mark": lambda f: f.replace(b"PK\x03\x04", b"PK\x03\x05", 2).replace(
        b"PK\x03\x05", b"PK\x03\x04", 1
    ),
    "a larger size in the directory": lambda f: patched(
        f, central(f, b"archive/data/0") + 20, struct.pack("<2L", 5, 5)
    ),
    "two sizes in the directory": lambda f: patched(
        f, central(f, b"archive/data/0") + 20, struct.pack("<2L", 4, 5)
    ),
    "an offset in the directory": lambda f: patched(
        f, central(f, b"archive/data/0") + 42, struct.pack("<L", 0)
    ),
    "an offset beyond the file": lambda f: patched(
        f, central(f, b"archive/data/0") + 42, struct.pack("<L", 1 << 31)
    ),
    "a disk in the directory": lambda f: patched(f, central(f, b"archive/data/0") + 34, b"\x01"),
    "a comment in the directory": lambda f: patched(f, central(f, b"archive/data/0") + 32, b"\x01"),
    "an extra field in the directory": lambda f: patched(
        f, central(f, b"archive/data/0") + 30, b"\x04"
    ),
    "a size of 4 GiB without its field": lambda f: patched(
        f, central(f, b"archive/data/0") + 20, b"\xff" * 8
    ),
    "a count": lambda f: patched(f, len(f) - 14, b"\x03\0\x03\0"),
    "one count": lambda f: patched(f, len(f) - 14, b"\x03"),
    "a volume": lambda f: patched(f, len(f) - 18, b"\x01"),
    "a directory size": lambda f: patched(f, len(f) - 10, b"\x01"),
    "a directory offset": lambda f: patched(f, len(f) - 6, b"\x01"),
    "a comment length": lambda f: patched(f, len(f) - 2, b"\x01"),
    "a comment": lambda f: patched(f, len(f) - 2, b"\x01") + b"!",
    "bytes after the end": lambda f: f + b"\0",
    "an archive after the end": lambda f: f + f,
    "bytes before the start": lambda f: b"PK\x03\x04" + f,
    "a gap before the directory": lambda f: f.replace(b"PK\x01\x02", b"!PK\x01\x02", 1),
    "a byte too few": lambda f: f[:-1],
}


@pytest.mark.attack(
    "large",
    "an archive whose directory and records differ in a name, a size or a place",
    "archive-structure or archive-compressed",
)
@pytest.mark.parametrize("change", CHANGES)
def test_an_archive_that_says_two_things_is_refused(change: str) -> None:
    assert code_of(ONE) is None
    changed = CHANGES[change](ONE)
    assert changed != ONE
    assert code_of(changed) in {"archive-structure", "archive-compressed"}


@pytest.mark.attack("large", "entries of an archive that share their bytes", "archive-structure")
def test_overlapping_entries_are_refused() -> None:
    """Two directory entries for the same bytes: David Fifield's bomb in small."""
    file = file_of(RECORDS["data.pkl"], {"0": b"1234", "1": b"1234"})
    first, second = (central(file, f"archive/data/{i}".encode()) for i in range(2))
    (offset,) = struct.unpack_from("<L", file, first + 42)
    assert code_of(patched(file, second + 42, struct.pack("<L", offset))) == "archive-structure"


def test_two_entries_of_one_name_are_refused() -> None:
    records = [*RECORDS.items(), ("data/0", b"1"), ("data/0", b"2")]
    assert code_of(container(records)) == "archive-structure"


def test_entries_in_another_order_than_the_directory_are_refused() -> None:
    file = file_of(RECORDS["data.pkl"])
    begin, middle = central(file, b"archive/data.pkl"), central(file, b"archive/byteorder")
    end = central(file, b"archive/version")
    swapped = file[:begin] + file[middle:end] + file[begin:middle] + file[end:]
    assert code_of(swapped) == "archive-structure"


def test_sizes_after_the_data_must_agree_with_the_directory() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for name, data in RECORDS.items():
            archive.writestr(f"archive/{name}", data)
    file = bytes(pipe.data)
    assert code_of(file) is None
    for field in (0, 4, 8, 12):
        for at in (file.index(b"PK\x07\x08"), file.rindex(b"PK\x07\x08")):
            assert code_of(patched(file, at + field, b"\x7f")) == "archive-structure"


def test_more_entries_than_the_limit_are_refused_before_they_are_read() -> None:
    count = limits.TENSORS + 100
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, 1 << 40, 9)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 100, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 9, 0)
    file = b"PK\x03\x04" + bytes(96) + end64 + locator + end
    assert code_of(file) == "archive-size"


def test_an_archive_cut_anywhere_is_refused() -> None:
    for size in range(len(ONE)):
        assert code_of(ONE[:size]) in {"archive-format", "archive-structure"}, size


def test_a_file_that_shrinks_while_it_is_read_is_reported() -> None:
    for size in range(0, len(ONE), 7):
        archive, problems = read_archive(io.BytesIO(ONE[:size]), len(ONE), where=WHERE)
        assert archive is None
        assert problems


WIDE = (1 << 32) + 4


def write_wide(path: Path, change: Callable[[int, bytes], bytes]) -> int:
    """A file as this package writes it, with a storage beyond 4 GiB that is a hole in it."""
    records = {name: len(data) for name, data in RECORDS.items()}
    records |= {"data/0": WIDE, "data/1": 4}
    placed = archive_layout.place(list(records.items()))
    with path.open("wb") as file:
        for index, place in enumerate(placed):
            file.seek(place.offset)
            file.write(change(index, place.local_header(0)))
            file.write(RECORDS.get(place.name.decode().removeprefix("archive/"), b""))
        file.seek(placed[-1].end)
        return placed[-1].end + file.write(archive_layout.tail(placed, [0] * len(placed)))


def test_files_beyond_4_gib_are_read(tmp_path: Path) -> None:
    path = tmp_path / "large.pt"
    size_bytes = write_wide(path, lambda _, header: header)
    with path.open("rb") as stream:
        archive, problems = read_archive(stream, size_bytes, where=WHERE)
    assert problems == ()
    assert archive is not None
    assert [record.size_bytes for record in archive.storages.values()] == [WIDE, 4]
    assert archive.storages["1"].begin > WIDE


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.replace(struct.pack("<Q", WIDE), struct.pack("<Q", WIDE + 1), 1),
        lambda header: header.replace(struct.pack("<2H", 1, 16), b"FB\x10\0"),
        lambda header: header.replace(b"\xff\xff\xff\xff", b"\0\0\0\0", 1),
    ],
)
def test_sizes_beyond_4_gib_must_agree(change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "large.pt"
    size_bytes = write_wide(
        path, lambda index, header: change(header) if index == len(RECORDS) else header
    )
    with path.open("rb") as stream:
        _, problems = read_archive(stream, size_bytes, where=WHERE)
    assert [problem.code for problem in problems] == ["archive-structure"]


@pytest.mark.torch
def test_torch_files_beyond_4_gib_are_read(tmp_path: Path) -> None:
    import torch
    from torch.serialization import skip_data

    path = tmp_path / "large.pt"
    # Neither the memory nor the file is ever touched: both have holes.
    large = torch.empty(WIDE, dtype=torch.uint8)
    with skip_data():
        torch.save({"a": torch.ones(3), "large": large, "b": torch.zeros(2)}, path)
    assert path.stat().st_size > WIDE
    with path.open("rb") as stream:
        archive, problems = read_archive(stream, path.stat().st_size, where=WHERE)
    assert problems == ()
    assert archive is not None
    sizes = [record.size_bytes for record in archive.storages.values()]
    assert sizes == [12, WIDE, 8]
    mapped = torch.load(path, map_location="meta", weights_only=True)
    offsets = [mapped[name].untyped_storage()._checkpoint_offset for name in ("a", "large", "b")]
    assert [record.begin for record in archive.storages.values()] == offsets


@given(at=st.integers(0, len(ONE) - 1), value=st.integers(0, 255))
def test_any_byte_may_change_and_findings_are_values(at: int, value: int) -> None:
    file, problems = scan(patched(ONE, at, bytes([value])))
    assert (file is None) == bool(problems)
