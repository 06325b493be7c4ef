"""Torch files that hold more, or less, than a state."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

from tests.contract.broken_meta import deep
from tests.contract.build import draft, with_optimizer
from tests.contract.register import STRUCTURE, Files, breach, example
from tests.contract.torch_files import (
    Raw,
    Stored,
    archive,
    floats,
    opcodes,
    program,
    zipped,
)


def torch_file(data: bytes) -> Callable[[], Files]:
    """A checkpoint with this optimizer.pt."""
    return lambda: with_optimizer(draft(), data).files()


def state(value: object, **storages: bytes) -> Callable[[], Files]:
    """A checkpoint whose optimizer.pt is a sound archive of this value."""
    return torch_file(archive(program(value), {k.lstrip("_"): v for k, v in storages.items()}))


def code(data: bytes) -> Callable[[], Files]:
    """A checkpoint whose optimizer.pt is a sound archive of this program."""
    return torch_file(archive(data, {}))


SOUND = {"data.pkl": program({"state": {}}), "byteorder": b"little", "version": b"3\n"}


breach("archive-format--bare-pickle", STRUCTURE, torch_file(program({"lr": 0.1})))
breach(
    "archive-format--tar",
    STRUCTURE,
    torch_file(b"pickle".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0") + b"\0" * 1024),
)
breach("archive-format--text", STRUCTURE, torch_file(b"not found\n"))
breach(
    "archive-format--torchscript",
    STRUCTURE,
    torch_file(zipped(SOUND | {"constants.pkl": program(()), "code/model.py": b"pass\n"})),
)
breach("archive-structure--truncated", STRUCTURE, torch_file(zipped(SOUND)[:-10]))
breach("archive-structure--bytes-behind", STRUCTURE, torch_file(zipped(SOUND) + b"PK"))
breach("archive-structure--bytes-before", STRUCTURE, torch_file(b"PK\x03\x04" + zipped(SOUND)))


@example("archive-structure--two-names-for-one-entry", STRUCTURE)
def _two_names() -> Files:
    data = bytearray(zipped(SOUND))
    at = data.rindex(b"archive/version")
    data[at : at + 15] = b"archive/byteord"
    return torch_file(bytes(data))()


@example("archive-structure--two-entries-of-one-name", STRUCTURE)
def _two_entries() -> Files:
    data = zipped(SOUND | {"data.pk1": program({"state": 1})})
    return torch_file(data.replace(b"archive/data.pk1", b"archive/data.pkl"))()


@example("archive-structure--comment", STRUCTURE)
def _comment() -> Files:
    data = zipped(SOUND)
    return torch_file(data[:-2] + struct.pack("<H", 4) + b"mine")()


@example("archive-compressed--deflated", STRUCTURE)
def _deflated() -> Files:
    # One stored block, as every deflater may write it: the same bytes whatever zlib is there.
    plain = SOUND["data.pkl"]
    block = b"\x01" + struct.pack("<2H", len(plain), len(plain) ^ 0xFFFF) + plain
    data = bytearray(zipped(SOUND | {"data.pkl": block}))
    for at in (8, data.index(b"PK\x01\x02") + 10):
        struct.pack_into("<H", data, at, 8)
        struct.pack_into("<LLL", data, at + 6, zlib.crc32(plain), len(block), len(plain))
    return torch_file(bytes(data))()


@example("archive-compressed--encrypted", STRUCTURE)
def _encrypted() -> Files:
    data = bytearray(zipped(SOUND))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return torch_file(bytes(data))()


@example("archive-size--a-million-entries", STRUCTURE)
def _a_million_entries() -> Files:
    data = zipped(SOUND)
    at = data.index(b"PK\x05\x06")
    begin = data.index(b"PK\x01\x02")
    count = 1_000_000
    end64 = b"PK\x06\x06" + struct.pack("<QHHII", 44, 45, 45, 0, 0)
    end64 += struct.pack("<QQQQ", count, count, at - begin, begin)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 65535, 65535, at - begin, begin, 0)
    return torch_file(data[:at] + end64 + locator + end)()


breach("archive-record--no-version", STRUCTURE, torch_file(archive(program({}), {}, version=b"")))
breach("archive-record--no-program", STRUCTURE, torch_file(archive(b"", {})))
breach(
    "archive-record--big-endian", STRUCTURE, torch_file(archive(program({}), {}, byteorder=b"big"))
)
breach(
    "archive-record--of-no-kind",
    STRUCTURE,
    torch_file(zipped(SOUND | {"payload.py": b"import os\n"})),
)
breach(
    "archive-record--storage-never-named", STRUCTURE, torch_file(archive(program({}), {"0": b"\0"}))
)
for what, asked in {
    "os-system": b"os\nsystem",
    "builtins-eval": b"builtins\neval",
    "builtins-getattr": b"builtins\ngetattr",
    "torch-load": b"torch\nload",
    "functools-partial": b"functools\npartial",
    "set": b"builtins\nset",
    "ordered-dict-of-another-module": b"typing\nOrderedDict",
    "untyped-storage": b"torch.storage\nUntypedStorage",
    "sparse-tensor": b"torch._utils\n_rebuild_sparse_tensor",
}.items():
    breach(
        f"pickle-global--{what}",
        STRUCTURE,
        code(b"\x80\x02c" + asked + b"\n(" + opcodes("true") + b"tR."),
    )
for what, data in {
    "build": b"ccollections\nOrderedDict\n)R}b",
    "newobj": b"ccollections\nOrderedDict\n)\x81",
    "inst": b"(icollections\nOrderedDict\n",
    "obj": b"(ccollections\nOrderedDict\no",
    "stack-global": opcodes("os") + opcodes("system") + b"\x93",
    "extension": b"\x82\x01",
    "bytearray": b"\x96" + struct.pack("<Q", 4) + b"\0\0\0\0",
    "bytes": b"C\x01x",
    "text-integer": b"I12\n",
    "set": b"\x8f",
}.items():
    breach(f"pickle-opcode--{what}", STRUCTURE, code(b"\x80\x02" + data + b"."))
breach("pickle-opcode--protocol-4", STRUCTURE, code(b"\x80\x04}."))
breach("pickle-structure--second-program", STRUCTURE, code(program({}) + program({})))
breach("pickle-structure--torn", STRUCTURE, code(program({"a": 1})[:-3]))
breach("pickle-structure--empty-stack", STRUCTURE, code(b"\x80\x02)R."))
breach("pickle-structure--no-such-memo", STRUCTURE, code(b"\x80\x02h\x07."))
breach("pickle-structure--holds-itself", STRUCTURE, code(b"\x80\x02]q\x00h\x00a."))
breach("pickle-structure--keeps-a-name", STRUCTURE, code(b"\x80\x02ctorch\nFloatStorage\n."))
breach("pickle-structure--calls-a-list", STRUCTURE, code(b"\x80\x02])R."))
STORAGE = Raw(opcodes(("storage", Raw(b"ctorch\nFloatStorage\n"), "0", "cpu", 1)) + b"Q")
breach(
    "pickle-structure--keeps-a-storage",
    STRUCTURE,
    torch_file(archive(program({"a": STORAGE}), {"0": floats(1.0)})),
)
FOUR = {"_0": floats(1.0, 2.0, 3.0, 4.0)}
for what, tensor in {
    "larger-than-its-storage": Stored("0", 4, (5,), (1,)),
    "beyond-its-storage": Stored("0", 4, (2,), (1,), offset=3),
    "one-element-many-times": Stored("0", 4, (4,), (0,)),
    "overlapping-windows": Stored("0", 4, (3, 3), (1, 0)),
    "rows-that-overlap": Stored("0", 4, (2, 2), (1, 1)),
    "negative-stride": Stored("0", 4, (2,), (-1,), offset=1),
    "negative-offset": Stored("0", 4, (2,), (1,), offset=-1),
    "shape-without-strides": Stored("0", 4, (2, 2), (1,)),
    "storage-of-other-size": Stored("0", 5, (4,), (1,)),
    "storage-not-there": Stored("7", 4, (4,), (1,)),
}.items():
    breach(f"pickle-tensor--{what}", STRUCTURE, state({"a": tensor}, **FOUR))
breach(
    "pickle-tensor--storage-named-as-two-types",
    STRUCTURE,
    state(
        {"a": Stored("0", 4, (4,), (1,)), "b": Stored("0", 4, (4,), (1,), storage="IntStorage")},
        **FOUR,
    ),
)
breach("pickle-bounds--integer-of-2000-bits", STRUCTURE, state({"a": 1 << 2000}))
breach("pickle-bounds--nests-too-deep", STRUCTURE, state({"a": deep(70)}))


@example("pickle-bounds--a-set-that-takes-long-to-hash", STRUCTURE)
def _set() -> Files:
    # Each tuple holds the one before twice, so hashing the last takes 8,192 steps.
    member: Any = (1,)
    for _ in range(12):
        member = member, member
    return state({"a": {"$type": "set", "items": [member]}})()


@example("pickle-bounds--ten-billion-shared-values", STRUCTURE)
def _shared() -> Files:
    # Each list holds the one before ten times: 200 bytes, and 10^10 values to walk.
    lists = b"](" + b"K\x01" * 10 + b"eq\x00"
    for level in range(1, 11):
        lists += b"](" + bytes([ord("h"), level - 1]) * 10 + b"eq" + bytes([level])
    return code(b"\x80\x02(" + lists + b"t.")()


def extra(value: object, **fields: Any) -> Callable[[], Files]:
    """A checkpoint with this extra.pt, and with fields that say what it holds."""

    def make() -> Files:
        made = draft()
        made.parts["extra.pt"] = archive(program(value), {})
        made.meta |= fields
        return made.files()

    return make


SCALER = {"objects": {"scaler": {"scale": 2.0}}}
breach("extra-mismatch--no-random-state", STRUCTURE, extra(SCALER, extra=["scaler"], rng=True))
breach(
    "extra-mismatch--random-state-of-which-nothing-is-said",
    STRUCTURE,
    extra(SCALER | {"rng": {}}, extra=["scaler"]),
)
breach("extra-mismatch--object-of-another-name", STRUCTURE, extra(SCALER, extra=["ema"]))
breach("extra-mismatch--of-no-weight-set", STRUCTURE, extra({"modules": {"ema": {}}}))
breach("extra-mismatch--unknown-part", STRUCTURE, extra({"rng": {}, "more": 1}, rng=True))
breach("extra-mismatch--a-list", STRUCTURE, extra([1]))
