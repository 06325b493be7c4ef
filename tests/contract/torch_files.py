"""Torch files made by hand: programs of plain values, and the archives that have them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from smartcash_format.spec.archive_layout import place, tail


@dataclass(frozen=True, slots=True)
class Raw:
    """Opcodes that stand in a program as they are, and leave one value."""

    code: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a program: a window on the storage `data/<key>`."""

    key: str
    numel: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0
    storage: str = "FloatStorage"


def opcodes(value: object) -> bytes:
    """The opcodes that leave a value on the stack, as protocol 2 spells them, without memo."""
    match value:
        case Raw():
            return value.code
        case Stored():
            return _tensor(value)
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return _integer(value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            text = value.encode()
            return b"X" + struct.pack("<L", len(text)) + text
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            pairs = (opcodes(key) + opcodes(item) for key, item in value.items())
            return b"}(" + b"".join(pairs) + b"u"
    raise TypeError(type(value))


def _integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<l", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _tensor(value: Stored) -> bytes:
    place_in = ("storage", Raw(b"ctorch\n%s\n" % value.storage.encode()), value.key, "cpu")
    storage = Raw(opcodes((*place_in, value.numel)) + b"Q")
    hooks = Raw(b"ccollections\nOrderedDict\n)R")
    args = (storage, value.offset, value.shape, value.stride, False, hooks)
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + opcodes(args) + b"R"


def program(value: object) -> bytes:
    """A whole program."""
    return b"\x80\x02" + opcodes(value) + b"."


def archive(code: bytes, storages: Mapping[str, bytes], **others: bytes) -> bytes:
    """A torch file; `others` replace or add records, an empty one leaves its record out."""
    records = {"data.pkl": code, "byteorder": b"little"}
    records |= {f"data/{key}": data for key, data in storages.items()}
    records |= {"version": b"3\n"} | others
    return zipped({name: data for name, data in records.items() if data or "/" in name})


def zipped(records: Mapping[str, bytes]) -> bytes:
    """Records in the container that torch writes."""
    crcs = [zlib.crc32(data) for data in records.values()]
    placed = place([(name, len(data)) for name, data in records.items()])
    parts = (
        entry.local_header(crc) + data
        for entry, crc, data in zip(placed, crcs, records.values(), strict=True)
    )
    return b"".join(parts) + tail(placed, crcs)


def floats(*values: float) -> bytes:
    """Little-endian float32."""
    return struct.pack(f"<{len(values)}f", *values)
