"""Every form of a program that the static reader takes, torch's restricted reader loads alike.

The programs are put together opcode by opcode, in every spelling that an opcode has; no writer
would write most of them.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.spec.torch_files import COUNTER, ORDERED_DICT, PROTO, file_of, scan, storage, tensor
from tests.spec.torch_files import text as spelled
from tests.torch_io.scanned import check

pytestmark = pytest.mark.torch

# Element type, bytes of one, and how many elements the storage of that number has.
STORAGES = (
    ("FloatStorage", 4, 6), ("DoubleStorage", 8, 2), ("HalfStorage", 2, 4),
    ("BFloat16Storage", 2, 4), ("LongStorage", 8, 3), ("IntStorage", 4, 2), ("ShortStorage", 2, 2),
    ("CharStorage", 1, 5), ("ByteStorage", 1, 8), ("BoolStorage", 1, 3),
    ("ComplexDoubleStorage", 16, 1), ("ComplexFloatStorage", 8, 2),
)  # fmt: skip
WINDOWS = ((0, (), ()), (1, (1,), (1,)), (0, (1, 1), (7, 3)), (0, (0,), (1,)), (0, (1,), (0,)))


def _integers(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


INTEGERS = (
    st.integers(0, 255).map(lambda n: b"K" + bytes([n]))
    | st.integers(0, 65_535).map(lambda n: b"M" + struct.pack("<H", n))
    | st.integers(-(1 << 31), (1 << 31) - 1).map(lambda n: b"J" + struct.pack("<i", n))
    | st.integers(-(1 << 1030), 1 << 1030).map(_integers)
    | st.integers(-(1 << 64), 1 << 64).map(_integers)
)
KEYS = (
    st.sampled_from([b"N", b"\x88", b"\x89"])
    | INTEGERS
    | st.floats().map(lambda x: b"G" + struct.pack(">d", x))
    | st.text(max_size=4).map(lambda value: spelled(value))
)


def _tensor(number: int, window: int) -> bytes:
    kind, _, count = STORAGES[number]
    offset, shape, stride = WINDOWS[window]
    stored = storage(str(number), numel=count, kind=kind)
    return tensor(stored, offset=offset, shape=shape, stride=stride)


TENSORS = st.builds(_tensor, st.integers(0, len(STORAGES) - 1), st.integers(0, len(WINDOWS) - 1))


def _tuples(items: list[bytes]) -> st.SearchStrategy[bytes]:
    body = b"".join(items)
    forms = [b"(" + body + b"t"]
    if len(items) < 4:
        forms.append(body + (b")", b"\x85", b"\x86", b"\x87")[len(items)])
    return st.sampled_from(forms)


def _lists(items: list[bytes]) -> st.SearchStrategy[bytes]:
    one_by_one = b"".join(item + b"a" for item in items)
    return st.sampled_from([b"]" + one_by_one, b"](" + b"".join(items) + b"e"])


def _dicts(pairs: list[tuple[bytes, bytes]]) -> st.SearchStrategy[bytes]:
    one_by_one = b"".join(key + item + b"s" for key, item in pairs)
    at_once = b"(" + b"".join(key + item for key, item in pairs) + b"u"
    empty = (b"}", ORDERED_DICT + b")R")
    return st.sampled_from([begin + body for begin in empty for body in (one_by_one, at_once)])


def _counters(pairs: list[tuple[bytes, bytes]]) -> st.SearchStrategy[bytes]:
    at_once = b"}(" + b"".join(key + item for key, item in pairs) + b"u"
    return st.just(COUNTER + at_once + b"\x85R")


def _memos(values: list[bytes], puts: list[bool], gets: list[bool]) -> bytes:
    """Each value put into the memo and fetched once more, in a tuple; in the short or long form."""
    code = b"("
    for number, (value, short_put, short_get) in enumerate(zip(values, puts, gets, strict=True)):
        short, long = bytes([number]), struct.pack("<L", number)
        code += value + (b"q" + short if short_put else b"r" + long)
        code += b"h" + short if short_get else b"j" + long
    return code + b"t"


def _inside(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    few = st.lists(inner, max_size=4)
    pairs = st.lists(st.tuples(KEYS, inner), max_size=3)
    # The keys of a dict may be tuples, too.
    keyed = st.lists(st.tuples(st.lists(KEYS, max_size=3).flatmap(_tuples), inner), max_size=2)
    counted = st.lists(st.tuples(KEYS, INTEGERS), max_size=3)
    return (
        few.flatmap(_tuples) | few.flatmap(_lists) | pairs.flatmap(_dicts) | keyed.flatmap(_dicts)
        | counted.flatmap(_counters)
    )  # fmt: skip


VALUES = st.recursive(KEYS | TENSORS, _inside, max_leaves=8)


def _file(value: bytes) -> bytes:
    """The value and a use of every storage, so that no record is there for nothing."""
    used = b"".join(_tensor(number, 0) for number in range(len(STORAGES)))
    data = {str(n): bytes(width * count) for n, (_, width, count) in enumerate(STORAGES)}
    return file_of(PROTO + b"(" + value + used + b"t.", data)


@given(
    st.lists(VALUES, min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_what_passes_is_loaded_alike(
    values: list[bytes], puts: list[bool], gets: list[bool]
) -> None:
    file = _file(_memos(values, puts, gets))
    found, problems = scan(file)
    assert (found is None) == bool(problems)
    event("passes" if found is not None else problems[0].code)
    if found is not None:
        check(file)


FORMS: dict[str, bytes] = {
    "constants": b"(N\x88\x89t",
    "integers": b"(K\x01M\x00\x01J\xff\xff\xff\xff\x8a\x01\x80t",
    "a double": b"G\x7f\xf0" + bytes(6),
    "text": spelled("\u00e9"),
    "tuples": b"()N\x85NN\x86NNN\x87t",
    "lists": b"(]]Na](NNet",
    "dicts": b"(}}NNs}(NNK\x01Nut",
    "keys that are tuples": b"}K\x01K\x02\x86Ns",
    "an OrderedDict": ORDERED_DICT + b")R(NNu",
    "a Counter": COUNTER + b"}(K\x1eK\x01u\x85R",
    "memos": _memos([b"]", b"}"], [True, False], [False, True]),
    "tensors": b"(" + b"".join(_tensor(n, w) for n in range(10) for w in range(5)) + b"t",
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_passes_and_is_loaded_alike(form: str) -> None:
    """So that what is drawn above is not all refused."""
    check(_file(FORMS[form]))
