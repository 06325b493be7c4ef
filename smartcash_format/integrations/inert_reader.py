"""What a pickled torch file holds, without running a line of it: the program of a process apart.

    main([FILE, MAX_MEMORY_BYTES, PATTERN, ...])

The containers of torch's files, zip and legacy, and the document that another process gets of
them; the pickle itself is inert_pickle's. Only the standard library is loaded, and never a tensor:
tensors come out as places in the file. Standard output gets one JSON document:

    {"value": node, "storages": {key: [offset, bytes]}, "dropped": [text], "format": text}
    {"refused": text, "why": text}

A node is null, a boolean, a number, a text, or an array that begins with its kind: `list` or
`tuple` items, `dict` [key, value] pairs and perhaps torch's `_metadata`, `tensor` storage key,
dtype, offset, shape, stride, whether it is a parameter and whether that is trained, and of `conj`
and `neg` those that torch has still to do to its numbers; `object` class name and attributes.
"""

from __future__ import annotations

import io
import json
import mmap
import struct
import sys
import zipfile
from collections import deque
from typing import Any, BinaryIO, Final

from smartcash_format.integrations.inert_pickle import PATTERNS, Reader
from smartcash_format.integrations.inert_values import (
    Inert,
    Metadata,
    Refusal,
    Scalar,
    Tensor,
)
from smartcash_format.spec import limits
from smartcash_format.spec.refusal import Refused

# FORMAT.md bounds a torch file of ours likewise; a whole module has more around its tensors.
PROGRAM_BYTES: Final = 256 << 20
VALUES: Final = 2_000_000
# A value that stands in many places counts each time; in a small program there are not many.
_VALUES_A_BYTE: Final = 4
_FEW_VALUES: Final = 10_000
DEPTH: Final = 200
# Text that stands in many places is printed as often: a megabyte of it in a hundred is a lot.
TEXT_BYTES: Final = 64 << 20
# What is printed at most: the text, and some thirty characters of a value beside it.
DOCUMENT_BYTES: Final = 192 << 20
# Enough to see what is left behind.
_DROPPED: Final = 1_000
# An offset, a shape and its strides.
_NUMBERS: Final = 1 + 2 * limits.DIMENSIONS
_PLACE_CHARACTERS: Final = 200
_KEY_CHARACTERS: Final = 60
_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL: Final = 1001
# What torch writes beside the storages.
_RECORDS: Final = (
    "data.pkl", "byteorder", "version", ".format_version", ".storage_alignment",
    ".data/serialization_id",
)  # fmt: skip
# The header of a zip entry: version, flags, method, both sizes, lengths of name and extra field.
_LOCAL: Final = struct.Struct("<4x3H8x2L2H")
# What stands there when a size is in the extra field.
_WIDE: Final = 0xFFFFFFFF


def read(path: str, patterns: tuple[str, ...]) -> dict[str, Any]:
    """The document of a file. Raises Refusal, or whatever a broken pickle makes Python raise."""
    try:
        return _read(path, patterns)
    except Refused as refused:
        raise Refusal("the file", refused.message) from None


def _read(path: str, patterns: tuple[str, ...]) -> dict[str, Any]:
    with open(path, "rb") as stream:
        head = stream.read(512)
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        if head.startswith(b"PK\x03\x04"):
            return _read_zip(stream, size, patterns)
        if head[257:262] == b"ustar":
            raise Refusal("a tar archive", "torch's first format: load and save it with torch")
        if head[:1] == b"\x80":
            # Mapped: asked for more bytes than there are, it gives those that are there.
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return _read_legacy(mapped, size, patterns)
    raise Refusal("no torch file", f"it begins with {head[:8]!r}")


def _read_zip(stream: BinaryIO, size: int, patterns: tuple[str, ...]) -> dict[str, Any]:
    archive = zipfile.ZipFile(stream)
    entries = {info.filename: info for info in archive.infolist()}
    begins = _begins(stream, archive)
    programs = [name for name in entries if name.endswith("/data.pkl")]
    if any("/code/" in name or name.endswith("/constants.pkl") for name in entries):
        raise Refusal("TorchScript", "it is a program: save the state_dict() of what you exported")
    if len(programs) != 1:
        raise Refusal("a zip archive", f"it has {len(programs)} programs named data.pkl, not one")
    folder = programs[0].removesuffix("data.pkl")
    order = entries.get(f"{folder}byteorder")
    if order is not None and order.file_size < 16 and archive.read(order) != b"little":
        raise Refusal("big-endian numbers", "save it again on the machine that wrote it")
    program = entries[programs[0]]
    if program.file_size > min(PROGRAM_BYTES, size) or program.compress_type:
        raise Refusal("data.pkl", f"is compressed or has {program.file_size:,} bytes")
    stream_of_program = io.BytesIO(archive.read(program))
    reader = Reader(stream_of_program, patterns)
    value = reader.load()
    if stream_of_program.read(1):
        raise Refusal("data.pkl", "something follows its program")
    # A record that torch neither wrote nor reads is what another program may take for its own.
    known = {f"{folder}{name}" for name in (*_RECORDS, *(f"data/{key}" for key in reader.storages))}
    if others := sorted(name for name in entries if name not in known):
        raise Refusal(others[0], "torch writes no such record, and nothing in the file names it")
    storages = {}
    for key, needed in reader.storages.items():
        info = entries.get(f"{folder}data/{key}")
        if info is None or info.compress_type or info.flag_bits & 1 or info.file_size < needed:
            raise Refusal(f"data/{key}", "the storage is absent, compressed, encrypted or short")
        storages[key] = [begins[info.filename], info.file_size]
    return _document(value, storages, size, "zip", program.file_size)


def _begins(stream: BinaryIO, archive: zipfile.ZipFile) -> dict[str, int]:
    """Where the data of each entry begins, by its name.

    Readers of zip archives differ in whether they believe the directory or an entry's own header,
    and in which of two entries of one name they take. Here the headers say the same, no name is
    there twice, and entry follows on entry from the first byte on without touching another.
    """
    begins: dict[str, int] = {}
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        stream.seek(info.header_offset)
        header = stream.read(_LOCAL.size)
        if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
            raise Refusal(info.filename, "its header is not where the directory says")
        _, flags, method, packed, size, name_bytes, extra_bytes = _LOCAL.unpack(header)
        name = stream.read(name_bytes).decode("utf-8" if info.flag_bits & 0x800 else "cp437")
        known = {info.compress_size, _WIDE} | ({0} if flags & 8 else set())
        known_size = {info.file_size, _WIDE} | ({0} if flags & 8 else set())
        same = (name, method, flags & 1) == (
            info.orig_filename, info.compress_type, info.flag_bits & 1,
        )  # fmt: skip
        if not same or packed not in known or size not in known_size or name != info.filename:
            raise Refusal(info.filename, "its own header and the directory disagree")
        if info.filename in begins or info.header_offset < end or (not end and info.header_offset):
            raise Refusal(info.filename, "is there twice, or lies over another entry")
        begins[info.filename] = stream.tell() + extra_bytes
        end = begins[info.filename] + info.compress_size
    if end > archive.start_dir:
        raise Refusal("the archive", "its last entry lies over the directory")
    return begins


def _read_legacy(stream: mmap.mmap, size: int, patterns: tuple[str, ...]) -> dict[str, Any]:
    first = Reader(stream, ())
    if first.load() != _LEGACY_MAGIC:
        raise Refusal("a plain pickle", "torch did not write it")
    if Reader(stream, ()).load() != _LEGACY_PROTOCOL:
        raise Refusal("a legacy torch file", "its protocol is not 1001")
    system = Reader(stream, ()).load()
    if not (isinstance(system, dict) and system.get("little_endian") is True):
        raise Refusal("big-endian numbers", "save it again on the machine that wrote it")
    reader = Reader(stream, patterns)
    begin = stream.tell()
    value = reader.load()
    program_bytes = stream.tell() - begin
    keys = Reader(stream, ()).load()
    storages: dict[str, list[int]] = {}
    at = stream.tell()
    for key in keys:
        stream.seek(at)
        count = stream.read(8)
        width = reader.widths.get(str(key))
        if len(count) < 8 or width is None:
            raise Refusal(f"storage {str(key)[:40]!r}", "the file ends early or names it nowhere")
        storages[str(key)] = [at + 8, int.from_bytes(count, "little") * width]
        at += 8 + storages[str(key)][1]
    if at < size:
        raise Refusal("the file", f"{size - at:,} bytes follow its last storage")
    for key, needed in reader.storages.items():
        if storages.get(key, [0, 0])[1] < needed:
            raise Refusal(f"storage {key}", "is absent or short")
    return _document(value, storages, size, "legacy", program_bytes)


def _document(
    value: Any, storages: dict[str, list[int]], size: int, form: str, program_bytes: int
) -> dict[str, Any]:
    for key, (offset, count) in storages.items():
        if not 0 <= offset <= offset + count <= size:
            raise Refusal(f"storage {key}", f"its {count:,} bytes go beyond the end of the file")
    plain = _Plain(min(VALUES, _FEW_VALUES + _VALUES_A_BYTE * program_bytes))
    return {
        "value": plain.node(value, 1, "file"),
        "storages": storages,
        "dropped": plain.dropped,
        "format": form,
    }


class _Plain:
    """Turns what was read into nodes; cycles and functions are dropped and listed."""

    def __init__(self, most_values: int) -> None:
        self._most = most_values
        self._open: set[int] = set()
        self._count = 0
        self._text = 0
        self.dropped: list[str] = []

    def node(self, value: Any, depth: int, where: str) -> Any:
        self._add(1)
        if depth > DEPTH:
            raise Refusal("the file", f"has more than {DEPTH} levels")
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int | str):
            return self._printed(value)
        if isinstance(value, Scalar):
            # Of eight bytes at most each, so that their count bounds what is printed of them.
            self._add(value.count())
            numbers = value.value()
            return ["list", *numbers] if isinstance(numbers, list) else numbers
        if isinstance(value, Tensor):
            return self._tensor(value, where)
        if isinstance(value, dict | list | tuple | deque | Inert):
            if id(value) in self._open:
                return self._drop(where, "refers to itself")
            self._open.add(id(value))
            try:
                return self._many(value, depth + 1, where)
            finally:
                self._open.discard(id(value))
        kind = getattr(value, "CLASS", None) or getattr(value, "text", None) or type(value).__name__
        return self._drop(where, f"is {kind}")

    def _add(self, count: int) -> None:
        self._count += count
        if self._count > self._most:
            raise Refusal("the file", f"reaches more than {self._most:,} values")

    def _printed(self, value: Any) -> Any:
        """The same text or integer, counted by what it takes when it is printed."""
        if isinstance(value, str):
            # A character beyond ASCII becomes up to twelve, a quote two.
            self._text += len(value) * (2 if value.isascii() and value.isprintable() else 12)
        elif isinstance(value, int):
            self._text += value.bit_length() // 3
        if self._text > TEXT_BYTES:
            raise Refusal("the file", f"has more than {TEXT_BYTES:,} bytes of text")
        return value

    def _drop(self, where: str, why: str) -> None:
        if len(self.dropped) < _DROPPED:
            self.dropped.append(f"{where}: {why}"[:300])
        elif len(self.dropped) == _DROPPED:
            self.dropped.append("and more")

    def _many(self, value: Any, depth: int, where: str) -> list[Any]:
        if isinstance(value, dict):
            node = ["dict", self._pairs(value, depth, where)]
            if isinstance(value, Metadata) and isinstance(value.versions, dict):
                node.append(self.node(value.versions, depth, f"{where}._metadata"))
            return node
        if isinstance(value, Inert):
            pairs = self._pairs(value.state, depth, where) + self._pairs(value.items, depth, where)
            return ["object", self._printed(value.CLASS), pairs]
        kind = "tuple" if isinstance(value, tuple) else "list"
        return [kind, *(self.node(v, depth, f"{where}[{i}]") for i, v in enumerate(value))]

    def _pairs(self, value: dict[Any, Any], depth: int, where: str) -> list[Any]:
        pairs = []
        for key, item in value.items():
            if isinstance(key, tuple):
                key = str(key)
            if not isinstance(key, str | int | float | bool | type(None)):
                self._drop(f"{where}[{type(key).__name__}]", "its key is no text or number")
                continue
            self._printed(key)
            inner = f"{where}.{str(key)[:_KEY_CHARACTERS]}"[-_PLACE_CHARACTERS:]
            pairs.append([key, self.node(item, depth, inner)])
        return pairs

    def _tensor(self, value: Tensor, where: str) -> list[Any]:
        numbers = [value.offset, *value.shape, *value.stride]
        sound = all(type(n) is int and 0 <= n <= limits.INTEGER_MAX for n in numbers)
        if not sound or len(value.shape) != len(value.stride) or len(numbers) > _NUMBERS:
            raise Refusal(where, "its shape or strides are no numbers, or too many")
        self._add(len(numbers))
        return [
            "tensor", value.storage, value.dtype, value.offset, value.shape, value.stride,
            value.is_parameter, value.trains, value.signs,
        ]  # fmt: skip


def _bound(memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the bounds above are the only ones
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def main(arguments: list[str]) -> int:
    """Prints the document of the file that the arguments name."""
    path, memory_bytes, *more = arguments
    _bound(int(memory_bytes))
    try:
        document = read(path, (*PATTERNS, *more))
    except Refusal as refused:
        document = {"refused": refused.asked, "why": refused.why}
    # Whatever a broken or hostile program makes Python raise is one answer: not readable.
    except Exception as error:  # noqa: BLE001
        document = {"refused": "the file", "why": f"{type(error).__name__}: {error}"[:500]}
    text = json.dumps(document)
    if len(text) > DOCUMENT_BYTES:
        text = json.dumps({"refused": "the file", "why": "has too many values and words"})
    sys.stdout.write(text)
    return 0
