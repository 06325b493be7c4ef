"""Torch files made by hand, without torch: programs by their opcodes, containers by their bytes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

from smartcash_format.spec import archive_layout
from smartcash_format.spec.pickles import TorchFile, scan_torch_file
from smartcash_format.spec.problems import Problem

WHERE = "optimizer.pt"
PROTO = b"\x80\x02"
STOP = b"."
FIXED = {"byteorder": b"little", "version": b"3\n"}
RECORDS = {"data.pkl": PROTO + b"N" + STOP, **FIXED}
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED_DICT = b"ccollections\nOrderedDict\n"
COUNTER = b"ccollections\nCounter\n"


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<L", len(raw)) + raw


def integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def sequence(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t"


def storage(
    key: str = "0", *, numel: int = 1, kind: str = "FloatStorage", location: str = "cpu"
) -> bytes:
    """The opcodes of a persistent id."""
    name = b"ctorch\n" + kind.encode() + b"\n"
    return (
        b"(" + text("storage") + name + text(key) + text(location) + integer(numel) + b"tQ"
    )  # fmt: skip


def tensor(
    stored: bytes,
    *,
    offset: int = 0,
    shape: Sequence[int] = (),
    stride: Sequence[int] = (),
    grad: bytes = b"\x89",
    hooks: bytes = ORDERED_DICT + b")R",
) -> bytes:
    """The opcodes of a tensor, as torch writes them but for the memo."""
    window = integer(offset) + sequence(shape) + sequence(stride)
    return REBUILD + b"(" + stored + window + grad + hooks + b"tR"


def file_of(program: bytes, storages: dict[str, bytes] | None = None, **fixed: bytes) -> bytes:
    """A torch file with this program and these storages."""
    records = {"data.pkl": program, **FIXED, **fixed}
    records |= {f"data/{key}": data for key, data in (storages or {}).items()}
    return container(list(records.items()))


def container(records: Sequence[tuple[str, bytes]]) -> bytes:
    """A torch file with these records."""
    placed = archive_layout.place([(name, len(data)) for name, data in records])
    crcs = [zlib.crc32(data) for _, data in records]
    body = b"".join(
        place.local_header(crc) + data
        for place, crc, (_, data) in zip(placed, crcs, records, strict=True)
    )
    return body + archive_layout.tail(placed, crcs)


def scan(file: bytes) -> tuple[TorchFile | None, tuple[Problem, ...]]:
    return scan_torch_file(io.BytesIO(file), len(file), where=WHERE)


def code_of(file: bytes) -> str | None:
    """The code of the one problem of a file, or None when it may be loaded."""
    found, problems = scan(file)
    assert (found is None) == bool(problems)
    assert len(problems) <= 1
    for problem in problems:
        assert problem.where.startswith(WHERE)
        assert (problem.where + problem.message + problem.fix).isprintable()
    return problems[0].code if problems else None


def patched(file: bytes, at: int, data: bytes) -> bytes:
    """The file with these bytes at this place."""
    return file[:at] + data + file[at + len(data) :]
