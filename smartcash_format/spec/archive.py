"""The container of a torch file: its program and its storages, and nothing else.

A zip archive of stored entries in one folder, with the names that torch.save writes: data.pkl and
a record a storage, data/0 and on (FORMAT.md, Torch files). Only the directory, the entries' headers
and the shortest records are read, never a storage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import repeat
from types import MappingProxyType
from typing import BinaryIO, Final

from smartcash_format.spec.archive_layout import BYTEORDER, PROGRAM, STORAGE_PREFIX, VERSION
from smartcash_format.spec.known_layouts import Layout, keep_layout, known_layout
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.refusal import Refused, shown
from smartcash_format.spec.stored_zip import Record, read_at, read_directory, read_records

# What the fixed records hold, as torch 2.10 to 2.13 write them. serialization_id is a hash that
# torch only logs.
_CONTENTS: Final[Mapping[str, re.Pattern[bytes]]] = {
    BYTEORDER: re.compile(rb"little"),
    VERSION: re.compile(rb"3\n?"),
    ".format_version": re.compile(rb"1"),
    ".storage_alignment": re.compile(rb"[1-9][0-9]{0,4}"),
    ".data/serialization_id": re.compile(rb"[0-9]{1,40}"),
}
_CONTENT_BYTES: Final = 40
_REQUIRED: Final = (PROGRAM, BYTEORDER, VERSION)
# Torch names the folder after the file: any name without control characters.
_FOLDER: Final = re.compile(rb"[^\x00-\x1f\x7f/\\]+/")
_SCRIPT: Final = ("constants.pkl", "code/")

_ZIP: Final = b"PK\x03\x04"
_PICKLE: Final = re.compile(rb"\x80[\x00-\x05]")
_TAR: Final = (b"ustar", 257)
_HEAD_BYTES: Final = 512
_CONVERT: Final = "turn it into a checkpoint: smartcash-format convert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Where the records of a torch file lie: its program, and its storages by their keys.

    `sizes` has the size in bytes of each storage.
    """

    program: Record
    storages: Mapping[str, Record]
    sizes: Mapping[str, int]


def read_archive(
    stream: BinaryIO, size_bytes: int, *, where: str
) -> tuple[Archive | None, tuple[Problem, ...]]:
    """The records of a torch file, or None and the first thing that is wrong with its container.

    `size_bytes` is the size of the file that `stream` reads, `where` its name in the problem.
    """
    try:
        _check_kind(read_at(stream, 0, min(size_bytes, _HEAD_BYTES)))
        directory = read_directory(stream, size_bytes)
        if (layout := known_layout(stream, directory)) is not None:
            _check_contents(stream, layout)
        else:
            records = read_records(stream, directory)
            layout = _sorted_out(records.by_name)
            _check_contents(stream, layout)
            keep_layout(directory, records.rows, layout)
        archive = Archive(
            program=layout.fixed[PROGRAM], storages=layout.storages, sizes=layout.sizes
        )
        return archive, ()
    except Refused as refused:
        return None, (refused.problem(where),)


def _check_kind(head: bytes) -> None:
    if head.startswith(_ZIP):
        return
    if _PICKLE.match(head):
        kind = "is a pickle without a container: torch's format before 1.6, or no torch file at all"
        raise Refused("archive-format", kind, fix=_CONVERT)
    if head.startswith(*_TAR):
        raise Refused("archive-format", "is a tar archive: torch's first format", fix=_CONVERT)
    raise Refused("archive-format", f"is no torch file: it begins with {shown(head[:8])}")


def _sorted_out(records: Mapping[bytes, Record]) -> Layout:
    folder = next(iter(records)).partition(b"/")[0] + b"/"
    if not _FOLDER.fullmatch(folder):
        raise Refused(
            "archive-record", "is in no folder that torch could have named", shown(folder)
        )
    prefix = folder + STORAGE_PREFIX.encode()
    storages, others = _counted(records, prefix)
    fixed: dict[str, Record] = {}
    for name, record in others.items():
        key = name[len(prefix) :] if name.startswith(prefix) else b""
        # Storages are counted from 0, and no number has two spellings.
        if key.isdigit() and (key == b"0" or not key.startswith(b"0")):
            storages[key.decode()] = record
        else:
            fixed[_fixed_name(name, folder)] = record
    for required in _REQUIRED:
        if required not in fixed:
            raise Refused("archive-record", f"lacks the record {required}")
    sizes = {key: record.size_bytes for key, record in storages.items()}
    return Layout(MappingProxyType(fixed), MappingProxyType(storages), MappingProxyType(sizes))


def _counted(
    records: Mapping[bytes, Record], prefix: bytes
) -> tuple[dict[str, Record], Mapping[bytes, Record]]:
    """The storages by their keys, and the other records, where they stand counted in one row.

    Else no storages, and all records: they are looked at one by one.
    """
    names, places = list(records), list(records.values())
    first = prefix + b"0"
    begin = names.index(first) if first in records else 0
    end = begin + sum(map(bytes.startswith, names, repeat(prefix)))
    keys = list(map(str, range(end - begin)))
    # One text of all names: a third of the cost of a text for each. A name may have line ends
    # itself, so there must be as many names as keys.
    separator = "\n" + prefix.decode("latin-1")
    due = (separator + separator.join(keys)).encode("latin-1")
    if not begin < end <= len(names) or b"\n" + b"\n".join(names[begin:end]) != due:
        return {}, records
    others = dict(zip(names[:begin] + names[end:], places[:begin] + places[end:], strict=True))
    return dict(zip(keys, places[begin:end], strict=True)), others


def _fixed_name(raw: bytes, folder: bytes) -> str:
    if not raw.startswith(folder):
        raise Refused("archive-record", "is outside the one folder of the archive", shown(raw))
    name = raw[len(folder) :].decode("utf-8", "replace")
    if name.startswith(_SCRIPT):
        message = "belongs to TorchScript: the file holds a program, not a state"
        raise Refused("archive-format", message, shown(raw), fix="save a state_dict instead")
    if name != PROGRAM and name not in _CONTENTS:
        raise Refused("archive-record", "is no record that torch.save writes", shown(raw))
    return name


def _check_contents(stream: BinaryIO, layout: Layout) -> None:
    for name, pattern in _CONTENTS.items():
        if (record := layout.fixed.get(name)) is not None:
            _check_content(stream, name, record, pattern)


def _check_content(stream: BinaryIO, name: str, record: Record, pattern: re.Pattern[bytes]) -> None:
    content = read_at(stream, record.begin, min(record.size_bytes, _CONTENT_BYTES + 1))
    if not pattern.fullmatch(content):
        raise Refused("archive-record", f"holds {shown(content)}, which is unknown here", name)
