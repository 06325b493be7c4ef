"""The header of a safetensors file: read harder than any loader reads it, and written as one does.

A file is 8 bytes of little-endian header length, a JSON object padded with spaces, and the tensors'
bytes without a gap. safetensors 0.8 accepts duplicate names, unknown fields, 70,000 dimensions and
control characters in names; none of these passes here. What passes here safetensors opens, and
sees alike (FORMAT.md, Weights).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from json.encoder import encode_basestring as quoted
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from pydantic_core import from_json, to_json

from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec import limits
from smartcash_format.spec.documents import parse_json
from smartcash_format.spec.header_entry import DTYPE_BITS, TensorInfo, read_entry
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.refusal import Refused, shown

# The one key that keeps the bytes the same from run to run: with two or more safetensors' own
# writer orders them by chance.
METADATA: Final[Mapping[str, str]] = MappingProxyType({"format": "pt"})

_METADATA_KEY: Final = "__metadata__"
_LENGTH_BYTES: Final = 8
_PADDING: Final = 8
_RANK: Final = {dtype: -rank for rank, dtype in enumerate(DTYPE_BITS)}
# Three brackets open for each tensor, four keys have a colon, and a tensor of eight dimensions has
# eleven commas; the rest is room for names such as "blocks[0]" and for JSON in metadata. Without
# these bounds a header of 16 MiB full of "[]," would become half a gigabyte of lists; with them no
# header of many values takes more than one of 100,000 such tensors.
_CROWDS: Final[Mapping[bytes, int]] = MappingProxyType(
    {
        b"[{": 6 * limits.TENSORS,
        b"{": 3 * limits.TENSORS,
        b":": 6 * limits.TENSORS,
        b",": 12 * limits.TENSORS,
    }
)
_CROWDED_BYTES: Final = min(_CROWDS.values())
# A header, its tensors, their lists; one more so that a wrong field is named, not its depth.
_DEPTH: Final = 4
# A damaged header of 100,000 tensors can break every rule 100,000 times; nobody reads that.
_PROBLEMS: Final = 100
# What was parsed or written last is kept, up to this size: a few megabytes in all.
_REMEMBERED: Final = 4
_REMEMBERED_BYTES: Final = 1 << 20
_REMEMBERED_TENSORS: Final = 5_000
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_COPY_AGAIN: Final = "copy the file again from its source, or use another checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a safetensors file says of itself: its tensors in the order of their bytes.

    `data_start` is where the data begins in the file, `size_bytes` what the whole file has.
    """

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int
    size_bytes: int


def read_header(
    stream: BinaryIO, size_bytes: int, *, where: str
) -> tuple[Header | None, tuple[Problem, ...]]:
    """The header of the file that `stream` stands at the start of, or None and all its problems.

    Reads the length and the header, never the tensors; `size_bytes` is the size of the file,
    `where` its name in the problems. Nothing is allocated before the length is known to be sane.
    """
    if size_bytes < _LENGTH_BYTES:
        return None, (_too_short(where, size_bytes, _LENGTH_BYTES),)
    prefix = stream.read(_LENGTH_BYTES)
    if len(prefix) < _LENGTH_BYTES:
        return None, (_too_short(where, len(prefix), size_bytes),)
    length = int.from_bytes(prefix, "little")
    if length > limits.HEADER_BYTES:
        most = f"at most {limits.HEADER_BYTES:,}"
        problem = Problem(
            code="header-length",
            where=where,
            message=f"gives its header {length:,} bytes; {most} are allowed",
            found=f"{length:,} bytes",
            expected=most,
        )
        return None, (problem,)
    if _LENGTH_BYTES + length > size_bytes:
        return None, (_too_short(where, size_bytes, _LENGTH_BYTES + length),)
    raw = stream.read(length)
    if len(raw) < length:
        return None, (_too_short(where, _LENGTH_BYTES + len(raw), size_bytes),)
    return _parse(raw, size_bytes, where)


def encode_header(
    tensors: Sequence[tuple[str, str, Sequence[int]]],
    metadata: Mapping[str, str] = METADATA,
    *,
    where: str = "weights",
) -> tuple[bytes, Header]:
    """The first bytes of a file with these (name, dtype, shape), and its header as a value.

    The tensors' bytes follow in the order of `Header.tensors`. Byte for byte what safetensors'
    own writer gives: descending alignment, then name; JSON padded with spaces to 8 bytes.

    Raises UnsavableStateError for what read_header would refuse.
    """
    key = tuple((name, dtype, tuple(shape)) for name, dtype, shape in tensors)
    encoded = _encoded if len(key) <= _REMEMBERED_TENSORS else _encoded.__wrapped__
    raw, data_bytes = encoded(key, tuple(metadata.items()))
    header, problems = _parse(raw, _LENGTH_BYTES + len(raw) + data_bytes, where)
    if header is None:
        first = problems[0]
        raise UnsavableStateError(
            f"{first.where}: {first.message}", where=first.where, kind="tensor"
        )
    return len(raw).to_bytes(_LENGTH_BYTES, "little") + raw, header


# A training saves the same header again and again.
@lru_cache(maxsize=_REMEMBERED)
def _encoded(
    tensors: Sequence[tuple[str, str, tuple[int, ...]]], metadata: Sequence[tuple[str, str]]
) -> tuple[bytes, int]:
    """The JSON of a header, and how many bytes of data follow it."""
    # Texts, not a dict: a name given twice has to reach the check that refuses it. By hand, because
    # a JSON encoder takes ten times as long for a tensor.
    items = []
    if metadata:
        items.append(f"{quoted(_METADATA_KEY)}:{_compact(dict(metadata))}")
    end = 0
    for name, dtype, shape in sorted(tensors, key=lambda t: (_RANK.get(t[1], 0), t[0])):
        begin, end = end, end + math.prod(shape, start=DTYPE_BITS.get(dtype, 0)) // 8
        sizes = ",".join(map(str, shape))
        items.append(
            f'{quoted(name)}:{{"dtype":{quoted(dtype)},"shape":[{sizes}],'
            f'"data_offsets":[{begin},{end}]}}'
        )
    return _dumps(items), end


def _dumps(items: Sequence[str]) -> bytes:
    # A lone surrogate has no UTF-8; what stands in for it is refused as no UTF-8 by the check.
    raw = ("{" + ",".join(items) + "}").encode("utf-8", "surrogatepass")
    return raw + b" " * (-len(raw) % _PADDING)


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _parse(raw: bytes, size_bytes: int, where: str) -> tuple[Header | None, tuple[Problem, ...]]:
    if len(raw) > _CROWDED_BYTES:
        for marks, most in _CROWDS.items():
            if sum(raw.count(mark) for mark in marks) > most:
                message = f"has a header with more than {most:,} of {marks.decode()!r}"
                return None, (Problem(code="json-too-large", where=where, message=message),)
    sound = _sound if len(raw) <= _REMEMBERED_BYTES else _sound.__wrapped__
    if (header := sound(raw, size_bytes)) is not None:
        return header, ()
    # The short way only accepts: what is wrong, and which code it has, is said by the long one.
    document, problems = _strict(raw, where)
    if problems:
        return None, problems
    return _header(document, _LENGTH_BYTES + len(raw), size_bytes, where)


# The checkpoints of a root have one and the same header.
@lru_cache(maxsize=_REMEMBERED)
def _sound(raw: bytes, size_bytes: int) -> Header | None:
    """The header of a file without fault; None where there may be one."""
    document = _canonical(raw)
    if document is None:
        return None
    return _header(document, _LENGTH_BYTES + len(raw), size_bytes, "")[0]


def _header(
    document: dict[str, Any], data_start: int, size_bytes: int, where: str
) -> tuple[Header | None, tuple[Problem, ...]]:
    metadata = document.pop(_METADATA_KEY, {})
    found = list(islice(_metadata_problems(where, metadata), _PROBLEMS))
    if len(document) > limits.TENSORS:
        most = f"at most {limits.TENSORS:,}"
        problem = Problem(
            code="tensor-count",
            where=where,
            message=f"has {len(document):,} tensors; {most} are allowed",
            found=f"{len(document):,}",
            expected=most,
        )
        return None, (problem,)
    tensors: dict[str, TensorInfo] = {}
    for name, entry in document.items():
        try:
            tensors[name] = read_entry(name, entry)
        except Refused as refused:
            found.append(refused.problem(f"{where}: {name[:80]!r}"))
            if len(found) >= _PROBLEMS:
                break
    if not found:
        tensors = dict(sorted(tensors.items(), key=_by_bytes))
        layout = _layout_problems(where, tensors, data_start, size_bytes)
        found.extend(islice(layout, _PROBLEMS))
    if found:
        return None, tuple(found)
    header = Header(
        tensors=MappingProxyType(tensors),
        metadata=MappingProxyType(metadata),
        data_start=data_start,
        size_bytes=size_bytes,
    )
    return header, ()


def _by_bytes(item: tuple[str, TensorInfo]) -> tuple[int, int]:
    return item[1][2:]


def _strict(raw: bytes, where: str) -> tuple[Any, tuple[Problem, ...]]:
    document, problems = parse_json(
        raw, where=where, max_bytes=limits.HEADER_BYTES, max_depth=_DEPTH
    )
    if problems:
        (each,) = problems
        return None, (replace(each, message=f"has a header that {each.message}"),)
    # Whitespace that JSON allows and the format does not; no object at all.
    if not raw.startswith(b"{") or not raw.rstrip(b" ").endswith(b"}"):
        message = "has a header that is not one JSON object padded with spaces"
        return None, (Problem(code="json-syntax", where=where, message=message),)
    # Python reads -0 as 0, safetensors as a float that it refuses.
    if b"-0" in raw and b"-0" in _STRING.sub(b'""', raw):
        message = "has the number -0 in its header"
        return None, (Problem(code="json-number", where=where, message=message),)
    return document, ()


def _canonical(raw: bytes) -> dict[str, Any] | None:
    """The object that compact JSON holds, at a fifth of the cost, or None to look again.

    What gives these very bytes when written again has no key twice, no NaN, no -0, no lone
    surrogate. Depth and the size of integers are bounded by what a tensor and metadata may be.
    """
    try:
        value = from_json(raw)
        if isinstance(value, dict) and to_json(value) == raw.rstrip(b" "):
            return value
    except ValueError:
        pass
    return None


def _metadata_problems(where: str, metadata: object) -> Iterator[Problem]:
    spot = f"{where}: {_METADATA_KEY}"
    if not isinstance(metadata, dict):
        message, kind = "is no object of strings", type(metadata).__name__
        yield Problem(code="header-metadata", where=spot, message=message, found=kind)
        return
    for key, value in metadata.items():
        if key.startswith("__"):
            message = f"has the key {key[:80]!r}, which is no word but a name of Python's"
            yield Problem(code="header-metadata", where=spot, message=message, found=shown(key))
        if not isinstance(value, str):
            message = f"has a value that is no string under the key {key[:80]!r}"
            kind = type(value).__name__
            yield Problem(code="header-metadata", where=spot, message=message, found=kind)


def _layout_problems(
    where: str, tensors: Mapping[str, TensorInfo], data_start: int, size_bytes: int
) -> Iterator[Problem]:
    end, before = 0, ""
    for name, info in tensors.items():
        if info.begin != end:
            what = "overlaps" if info.begin < end else "leaves a hole after"
            after = repr(before[:80]) if before else "the header"
            message = f"starts at {info.begin:,}, where {end:,} is due: it {what} {after}"
            spot = f"{where}: {name[:80]!r}.data_offsets"
            yield Problem(
                code="tensor-offsets",
                where=spot,
                message=message,
                found=f"{info.begin:,}",
                expected=f"{end:,}",
            )
        end, before = info.end, name
    expected = data_start + end
    if size_bytes < expected:
        yield _too_short(where, size_bytes, expected)
    elif size_bytes > expected:
        yield Problem(
            code="file-size",
            where=where,
            message=f"has {size_bytes:,} bytes, {size_bytes - expected:,} more than its header "
            f"accounts for ({expected:,})",
            found=str(size_bytes),
            expected=str(expected),
        )


def _too_short(where: str, found: int, expected: int) -> Problem:
    return Problem(
        code="file-size",
        where=where,
        message=f"is cut short: it has {found:,} bytes and needs {expected:,} or more",
        found=str(found),
        expected=str(expected),
        fix=_COPY_AGAIN,
    )
