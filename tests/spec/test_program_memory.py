"""What the reading of a program takes in memory: no more than is counted for what it makes."""

from __future__ import annotations

import struct
import tracemalloc
from bisect import bisect_left
from collections.abc import Callable
from itertools import count

import pytest

from smartcash_format.spec import limits
from smartcash_format.spec.keys import Keys
from smartcash_format.spec.pickles import read_program
from smartcash_format.spec.refusal import Refused
from tests.spec.opcode_writer import STORAGES, Writer, get
from tests.spec.torch_files import COUNTER, ORDERED_DICT, PROTO, STOP, text

# Fewer than there may be, so that a test is quick.
FEWER = 1 << 20
# The elements of a storage that has many views.
ELEMENTS = 20_000
MANY = b"J" + struct.pack("<l", ELEMENTS)
# Of the machine itself, and of opcodes that are looked at together.
FIXED_BYTES = 384 << 10


def put(number: int) -> bytes:
    return b"r" + struct.pack("<L", number)


def repeated(opcodes: bytes) -> Callable[[int], bytes]:
    """A list of what these opcodes make, so many times."""
    return numbered(lambda _: opcodes)


def numbered(
    opcodes: Callable[[int], bytes], begin: bytes = b"](", end: bytes = b"e"
) -> Callable[[int], bytes]:
    """A list of what these opcodes make of each number."""
    return lambda count: PROTO + begin + b"".join(map(opcodes, range(count))) + end + STOP


def copies(count: int) -> bytes:
    """Counters of one dict."""
    first = b"}" + put(0) + filled(1_400).removeprefix(b"}")
    return PROTO + b"](" + first + (COUNTER + b"h\0\x85R") * count + b"e" + STOP


def filled(entries: int) -> bytes:
    """A dict of so many values; a key that is no text makes each entry longer."""
    # Of a text of one character there is one only.
    texts = b"".join(text(chr(ord("0") + key)) + b"N" for key in range(entries - 1))
    return b"}(NN" + texts + b"u"


def tensors(count: int, *, sizes: bytes, views: bool) -> bytes:
    writer = Writer()
    made = PROTO + b"(" + writer.beginning()
    for number in range(count):
        offset = b"J" + struct.pack("<l", number if views else 0)
        made += writer.tensor("0", sizes, noted=sizes != b")", offset=offset, numel=MANY)
    return made + b"t" + STOP


def entries(count: int) -> bytes:
    writer = Writer()
    made = PROTO + b"(" + writer.beginning()
    for _ in range(count):
        made += b"K\7" + writer.kept(b"}") + get(5) + writer.tensor("0", b")", noted=False) + b"s"
    return made + b"t" + STOP


WORST: dict[str, Callable[[int], bytes]] = {
    "nothing": repeated(b"N"),
    "nothing, one by one": numbered(lambda _: b"Na", b"]", b""),
    "integers of a byte": repeated(b"K\7"),
    "integers of four bytes": numbered(lambda n: b"J" + struct.pack("<l", n + 1_000)),
    "integers behind another": numbered(lambda n: b"J" + struct.pack("<l", n + 1_000), b"](N"),
    "integers in a tuple": numbered(lambda n: b"J" + struct.pack("<l", n + 1_000), b"(", b"t"),
    **{
        f"integers of {size} bytes": repeated(b"\x8a" + bytes([size]) + b"\7" * size)
        for size in (5, 7, 8, 15, 16, 23, 128)
    },
    "doubles": numbered(lambda n: b"G" + struct.pack(">d", n)),
    "empty texts": repeated(text("")),
    **{
        f"texts of {len(sample)} characters up to U+{max(map(ord, sample)):X}": repeated(
            text(sample)
        )
        for letter in ("a", "\xe9", "\u4e2d", "\U0001f600")
        for sample in (2 * letter, 13 * "a" + letter, 5_000 * "a" + letter)
    },
    "numbers in the memo": numbered(put, b"N", b""),
    "integers in the memo": numbered(lambda n: b"M\7\7" + put(n)),
    "fetched again and again": numbered(lambda _: b"h\0", b"](N" + b"q\0"),
    "empty lists": repeated(b"]"),
    "empty lists in lists": repeated(b"]]a"),
    "lists of a value": repeated(b"]Na"),
    "lists of five values": repeated(b"](NNNNNe"),
    "tuples of a value": repeated(b"N\x85"),
    "tuples of five values": repeated(b"(NNNNNt"),
    "empty dicts": repeated(b"}"),
    "dicts of a value": repeated(b"}" + text("a") + b"Ns"),
    "dicts of a value without a name": repeated(b"}NNs"),
    **{f"dicts of {size} values": repeated(filled(size)) for size in (5, 6, 10, 11, 22, 43, 1_400)},
    "a dict of texts": numbered(lambda n: text(f"{n:x}") + b"N", b"}(", b"u"),
    "a dict of texts, one by one": numbered(lambda n: text(f"{n:x}") + b"Ns", b"}", b""),
    "counters": repeated(COUNTER + filled(5) + b"\x85R"),
    "counters of 43 values": repeated(COUNTER + filled(43) + b"\x85R"),
    "counters of one dict": copies,
    "ordered dicts": repeated(ORDERED_DICT + b")R"),
    "memoised lists": numbered(lambda n: b"]" + put(n)),
    "lists in two places": numbered(lambda n: b"]" + put(n) + get(n)),
    "tensors": lambda count: tensors(count, sizes=b"K\1\x85", views=False),
    "entries of a tensor": entries,
    "views": lambda count: tensors(count, sizes=b")", views=True),
    "views of eight dimensions": lambda count: tensors(
        count, sizes=b"(" + b"J\1\0\0\0" * 8 + b"t", views=True
    ),
}


def problems_of(program: bytes) -> list[str]:
    storages = {**STORAGES, **({"0": 4 * ELEMENTS} if MANY in program else {})}
    _, problems = read_program(program, where="data.pkl", storages=storages)
    # The program may name fewer storages than are there.
    return [problem.code for problem in problems if problem.code != "archive-record"]


@pytest.mark.no_cover
@pytest.mark.attack(
    "large", "values that take more memory than the program has bytes", "pickle-bounds"
)
@pytest.mark.parametrize("name", WORST)
def test_what_is_made_takes_no_more_than_is_counted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROGRAM_MEMORY", FEWER)
    program = WORST[name]
    twice = next(power for power in (256 << n for n in count()) if problems_of(program(power)))
    # To a sixteenth of it: a bisection of all takes its time.
    each = range(0, twice + 1, twice // 32)
    most = each[bisect_left(each, True, key=lambda made: problems_of(program(made)) != []) - 1]
    for made in (most, 2 * most):
        data = program(made)
        tracemalloc.start()
        try:
            codes = problems_of(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert codes == ([] if made == most else ["pickle-bounds"])
        assert peak < FEWER + FIXED_BYTES


@pytest.mark.no_cover
@pytest.mark.parametrize("opcode", [b"G" + struct.pack(">d", 1.5), b"J\1\2\3\4", b"K\1"])
def test_a_million_numbers_pass(opcode: bytes) -> None:
    assert problems_of(PROTO + b"](" + opcode * 1_000_000 + b"e" + STOP) == []


@pytest.mark.no_cover
@pytest.mark.parametrize("each", [1, 2])
def test_an_optimizer_of_all_tensors_passes(each: int) -> None:
    writer, parameters = Writer(), limits.TENSORS // each
    # The beginning names one storage.
    storages = {str(key): 4 for key in range(2, limits.TENSORS + 3)}
    keys = iter([key for key in storages if key != "2"])
    made = [PROTO, b"](", writer.beginning(), b"}("]
    for number in range(parameters):
        made += [b"J" + struct.pack("<l", number), writer.kept(b"}"), b"(" if each > 1 else b""]
        for name in range(each):
            made += [get(5 + name), writer.tensor(next(keys), b"K\1\x85", noted=True)]
        made.append(b"u" if each > 1 else b"s")
        if number % 1_000 == 999:
            made.append(b"u(")
    numbers = (b"J" + struct.pack("<l", number) for number in range(parameters))
    made += [b"u](", *numbers, b"ee."]
    assert read_program(b"".join(made), where="data.pkl", storages=storages)[1] == ()


@pytest.mark.no_cover
@pytest.mark.parametrize(("kind", "item"), [("set", 1), ("dict", (1, None))])
def test_keys_of_tagged_forms_are_counted_without_a_list_of_them(kind: str, item: object) -> None:
    form = {"$type": kind, "items": [item] * limits.TENSORS}
    keys = Keys()
    tracemalloc.start()
    try:
        keys.check_form(form)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limits.TENSORS
    keys.check_form(form)
    with pytest.raises(Refused):
        keys.check_form({"$type": kind, "items": [item]})
