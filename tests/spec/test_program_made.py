"""What a program makes takes no more memory than it is counted as, whatever it is."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.spec import known_programs, limits, opcodes, pickle_machine
from smartcash_format.spec.pickles import read_program
from tests.spec.torch_files import COUNTER, ORDERED_DICT, PROTO, STOP, text

# So that a megabyte of a program is not needed to reach it.
MEMORY = 128 << 10
# Of the machine itself, and of opcodes that are looked at together, which are fewer here.
FIXED_BYTES = 16 << 10
PROGRAM_BYTES = 40_000
# Stand for the opcodes that memoise and fetch, with the numbers that are due.
PUT, GET, OLD = "put", "get", "old"
Made = tuple[bytes | str, ...]

LEAVES: st.SearchStrategy[Made] = st.one_of(
    st.sampled_from(
        [b"N", b"\x88", b")", b"]", b"}", ORDERED_DICT + b")R", b"G" + struct.pack(">d", 1.5)]
    ),
    st.integers(0, 255).map(lambda n: b"K" + bytes([n])),
    st.integers(0, 1 << 16).map(lambda n: b"J" + struct.pack("<l", n)),
    st.integers(0, 128).map(lambda size: b"\x8a" + bytes([size]) + b"\7" * size),
    st.builds(
        lambda begin, letter: text(begin * "a" + letter),
        st.sampled_from([0, 1, 2, 14, 15, 100, 3_000]),
        st.sampled_from(["", "a", "\xe9", "\u4e2d", "\U0001f600"]),
    ),
).map(lambda opcode: (opcode,)) | st.sampled_from([(GET,), (OLD,)])  # fmt: skip


def _listed(items: list[Made]) -> Made:
    return (b"](", *_joined(items), b"e")


def _appended(items: list[Made]) -> Made:
    return (b"]", *_joined([(*item, b"a") for item in items]))


def _tuple(items: list[Made]) -> Made:
    return (b"(", *_joined(items), b"t")


def _short(items: list[Made]) -> Made:
    return (*_joined(items[:3]), bytes([0x84 + len(items[:3])])) if items else (b")",)


def _dict(items: list[Made]) -> Made:
    keyed = [(text(f"{key}"), *item) for key, item in enumerate(items)]
    return (b"}(", *_joined(keyed), b"u")


def _numbered(items: list[Made]) -> Made:
    return (b"}", *_joined([(b"K" + bytes([n]), *item, b"s") for n, item in enumerate(items)]))


def _counter(items: list[Made]) -> Made:
    return (COUNTER, *_dict(items), b"\x85R")


def _joined(items: list[Made]) -> Made:
    return tuple(part for item in items for part in item)


def _holding(inner: st.SearchStrategy[Made]) -> st.SearchStrategy[Made]:
    ways = st.sampled_from([_listed, _appended, _tuple, _short, _dict, _numbered, _counter])
    many = st.lists(inner, max_size=14)
    memoised = inner.map(lambda made: (*made, PUT))
    return st.builds(lambda way, items: way(items), ways, many) | memoised


VALUES = st.recursive(LEAVES, _holding, max_leaves=16)
# Where they stand: all at once in a list or a tuple, one by one, under keys.
AROUND = st.sampled_from([(b"](", b"", b"e"), (b"(", b"", b"t"), (b"]", b"a", b"")])


def program(made: Made, around: tuple[bytes, bytes, bytes]) -> bytes:
    """The same values as often as a program of this length has room for."""
    begin, between, end = around
    parts, size, memos = [PROTO, b"Nq\0q\1]q\2(", begin], 0, 3
    while size < PROGRAM_BYTES:
        for part in made:
            if part is PUT:
                parts.append(b"r" + struct.pack("<L", memos))
                memos += 1
            elif isinstance(part, str):
                parts.append(b"j" + struct.pack("<L", memos - 1 if part is GET else 2))
            else:
                parts.append(part)
            size += len(parts[-1])
        parts.append(between)
        size += 1
    return b"".join((*parts, end, b"t\x87", STOP))


@pytest.mark.no_cover
@given(VALUES, AROUND)
def test_whatever_is_made_takes_no_more_than_is_counted(
    made: Made, around: tuple[bytes, bytes, bytes]
) -> None:
    data = program(made, around)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "PROGRAM_MEMORY", MEMORY)
        patch.setattr(opcodes, "_TOGETHER", 64)
        patch.setattr(pickle_machine, "_TOGETHER", 64)
        # What is kept of a program is bounded by its bytes.
        patch.setattr(known_programs, "_KEPT_BYTES", 0)
        tracemalloc.start()
        try:
            read_program(data, where="data.pkl", storages={})
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < MEMORY + FIXED_BYTES
