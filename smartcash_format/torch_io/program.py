"""A pickle program, written opcode by opcode: what Python's own pickler writes, without its calls.

Python's pickler asks back for every value whether it is a storage, and for every tensor how it is
rebuilt: half of the time that collecting a state takes. Its bytes are the measure: for every state
these are the same, below a thousand values in one container.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from typing import Any, Final, NamedTuple

from blake3 import blake3

# What torch.save writes; torch's restricted reader knows its opcodes and few others.
_PROTOCOL_2: Final = b"\x80\x02"
_REBUILD: Final = "torch._utils\n_rebuild_tensor_v2"
_ORDERED_DICT: Final = "collections\nOrderedDict"
# What one APPENDS or SETITEMS takes, as in every other pickler.
_BATCH: Final = 1_000
# Values in a row that are worth a look at all of them.
_MANY: Final = 16
# The words of every tensor: one of a user's that is the same object is written with them.
STORAGE, CPU = WORDS = "storage", "cpu"
_SINGLES: Final = {None: b"N", True: b"\x88", False: b"\x89"}
_TUPLES: Final = {1: b"\x85", 2: b"\x86", 3: b"\x87"}
_BYTE, _SHORT, _INT = struct.Struct("<B"), struct.Struct("<H"), struct.Struct("<i")
_LONG: Final = struct.Struct("<I")
_FLOAT: Final = struct.Struct(">d")


class Placed(NamedTuple):
    """Where a tensor's elements lie: what a program says of it.

    `storage_type` is the name in torch, as "FloatStorage"; shape and strides in elements.
    """

    # A tuple, because a state makes thousands and a frozen dataclass costs four times as much.

    storage_type: str
    key: str
    elements: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The bytes of data.pkl; `form` is the digest of all of them but the values of its floats.

    `floats` says where these lie, in order.
    """

    data: bytes
    form: bytes
    floats: tuple[int, ...] = ()

    def with_floats(self, values: Sequence[float]) -> Program:
        """The same program with other floats, as many."""
        data = bytearray(self.data)
        for at, value in zip(self.floats, values, strict=True):
            _FLOAT.pack_into(data, at, value)
        return replace(self, data=bytes(data))


def write_program(
    value: Any, *, is_tensor: Callable[[Any], bool], place: Callable[[Any], Placed]
) -> Program:
    """The program that builds a value made of plain data and tensors.

    `place` is asked once for each tensor object; two that give one Placed share what rebuilds them.
    """
    writer = _Writer(is_tensor, place)
    writer.write(value)
    return writer.program()


class _Writer:
    def __init__(self, is_tensor: Callable[[Any], bool], place: Callable[[Any], Placed]) -> None:
        self._is_tensor = is_tensor
        self._place = place
        self._out: list[bytes] = [_PROTOCOL_2]
        self._floats: list[int] = []
        # By identity, which is one only while the object lives: hence the objects.
        self._memo: dict[int, bytes] = {}
        self._alive: list[Any] = []
        self._count = 0
        self._named: dict[str, bytes] = {}
        self._rebuilt: dict[int, bytes] = {}
        self._templates: dict[tuple[Any, ...], tuple[bytes, int]] = {}

    def program(self) -> Program:
        self._out.append(b".")
        data = b"".join(self._out)
        ends = list(accumulate(map(len, self._out)))
        floats = tuple(ends[index] - _FLOAT.size for index in self._floats)
        for index in self._floats:
            self._out[index] = b"G"
        return Program(data=data, form=blake3(b"".join(self._out)).digest(), floats=floats)

    def write(self, value: Any) -> None:
        """The opcodes that push a value."""
        kind = type(value)
        if kind is str:
            self._text(value)
        elif kind is int:
            self._out.append(_integer(value))
        elif kind is float:
            self._floats.append(len(self._out))
            self._out.append(b"G" + _FLOAT.pack(value))
        elif value is None or kind is bool:
            self._out.append(_SINGLES[value])
        elif (known := self._memo.get(id(value))) is not None:
            self._out.append(known)
        elif self._is_tensor(value):
            self._tensor(value)
        else:
            self._container(value, kind)

    def _container(self, value: Any, kind: type) -> None:
        if kind is tuple:
            self._tuple(value)
        elif kind is list:
            self._out.append(b"]" + self._put(value))
            self._list(value)
        elif kind is dict:
            self._out.append(b"}" + self._put(value))
            self._items(value)
        elif kind is OrderedDict:
            self._name(_ORDERED_DICT)
            self._out.append(b")R" + self._put(value))
            self._items(value)
        else:
            raise TypeError(f"{kind.__name__} has no opcodes")

    def _text(self, value: str) -> None:
        known = self._memo.get(id(value))
        if known is None:
            data = value.encode("utf-8")
            known = b"X" + _LONG.pack(len(data)) + data + self._put(value)
        self._out.append(known)

    def _tuple(self, value: tuple[Any, ...]) -> None:
        if not value:
            self._out.append(b")")
            return
        end = _TUPLES.get(len(value))
        if end is None:
            self._out.append(b"(")
        self._each(value)
        self._out.append((end or b"t") + self._put(value))

    def _list(self, values: Sequence[Any]) -> None:
        for begin in range(0, len(values), _BATCH):
            batch = values[begin : begin + _BATCH]
            if len(batch) > 1:
                self._out.append(b"(")
            self._each(batch)
            self._out.append(b"e" if len(batch) > 1 else b"a")

    def _each(self, values: Sequence[Any]) -> None:
        # The state of a random generator is six hundred integers.
        if len(values) >= _MANY and {*map(type, values)} == {int}:
            self._out += map(_integer, values)
        else:
            for value in values:
                self.write(value)

    def _items(self, value: Mapping[Any, Any]) -> None:
        """Keys and values, put into the dict on top of the stack."""
        left = iter(value.items())
        for begin in range(0, len(value), _BATCH):
            size = min(_BATCH, len(value) - begin)
            if size > 1:
                self._out.append(b"(")
            for key, item in islice(left, size):
                self.write(key)
                self.write(item)
            self._out.append(b"u" if size > 1 else b"s")

    def _tensor(self, value: Any) -> None:
        placed = self._place(value)
        self._name(_REBUILD)
        arguments = self._rebuilt.get(id(placed))
        if arguments is None:
            self._arguments(placed)
        else:
            self._out.append(arguments)
        self._out.append(b"R" + self._put(value))

    def _arguments(self, placed: Placed) -> None:
        """The arguments of a tensor's rebuilding: storage, offset 0, shape, strides, no gradient
        and no hooks.
        """
        if self._like_others(placed):
            return
        self._out.append(b"((")
        self._text(STORAGE)
        self._name(f"torch\n{placed.storage_type}")
        self._text(placed.key)
        self._text(CPU)
        self._out.append(_integer(placed.elements) + b"t" + self._number() + b"QK\0")
        self._tuple(placed.shape)
        self._tuple(placed.strides)
        self._out.append(b"\x89")
        self._name(_ORDERED_DICT)
        self._out.append(b")R" + self._number() + b"t" + self._put(placed))
        self._rebuilt[id(placed)] = self._memo[id(placed)]

    def _like_others(self, placed: Placed) -> bool:
        """Writes the arguments from those of another tensor of this form, if that can be.

        A state has thousands of them, and they differ in the key and the numbers of the memos.
        """
        # Before the 256th memo numbers are shorter; a key of one character may be known.
        if self._count < 256 or len(placed.key) == 1:
            return False
        form = placed.storage_type, placed.elements, placed.shape, placed.strides
        template = self._templates.get(form) or self._template(placed)
        if template is None:
            return False
        self._templates[form] = template
        opcodes, puts = template
        key = placed.key.encode("ascii")
        first, self._count = self._count, self._count + puts
        numbers = map(_LONG.pack, range(first, self._count))
        self._out.append(opcodes % (_LONG.pack(len(key)) + key, *numbers))
        self._rebuilt[id(placed)] = _fetch(self._count - 1)
        self._alive.append(placed)
        return True

    def _template(self, placed: Placed) -> tuple[bytes, int] | None:
        """The opcodes of such a tensor's arguments, with %b for the key and each memo's number, and
        how many of these there are; None before what they fetch is known.
        """
        word, location = self._memo.get(id(STORAGE)), self._memo.get(id(CPU))
        kind = self._named.get(f"torch\n{placed.storage_type}")
        hooks = self._named.get(_ORDERED_DICT)
        if word is None or location is None or kind is None or hooks is None:
            return None
        fixed = [b"((" + word + kind + b"X", location + _integer(placed.elements) + b"t", b"QK\0"]
        for sizes in (placed.shape, placed.strides):
            fixed[-1] += _sizes(sizes)
            fixed += [b""] if sizes else []
        fixed[-1] += b"\x89" + hooks + b")R"
        fixed.append(b"t")
        key, *rest = (opcodes.replace(b"%", b"%%") for opcodes in fixed)
        return b"r%b".join([key + b"%b", *rest, b""]), len(rest) + 1

    def _name(self, name: str) -> None:
        known = self._named.get(name)
        if known is None:
            put = self._number()
            self._named[name] = _fetch(self._count - 1)
            known = b"c" + name.encode("ascii") + b"\n" + put
        self._out.append(known)

    def _put(self, value: Any) -> bytes:
        """The opcode that memoises the value on top of the stack."""
        self._memo[id(value)] = _fetch(self._count)
        self._alive.append(value)
        return self._number()

    def _number(self) -> bytes:
        number = self._count
        self._count += 1
        return b"q" + _BYTE.pack(number) if number < 256 else b"r" + _LONG.pack(number)


def _sizes(sizes: tuple[int, ...]) -> bytes:
    opcodes = b"".join(map(_integer, sizes))
    if len(sizes) > 3:
        return b"(" + opcodes + b"t"
    return opcodes + _TUPLES.get(len(sizes), b")")


def _fetch(number: int) -> bytes:
    return b"h" + _BYTE.pack(number) if number < 256 else b"j" + _LONG.pack(number)


def _integer(value: int) -> bytes:
    if 0 <= value < 1 << 8:
        return b"K" + _BYTE.pack(value)
    if 0 <= value < 1 << 16:
        return b"M" + _SHORT.pack(value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + _INT.pack(value)
    data = value.to_bytes((value.bit_length() >> 3) + 1, "little", signed=True)
    if len(data) < 1 << 8:
        return b"\x8a" + _BYTE.pack(len(data)) + data
    return b"\x8b" + _INT.pack(len(data)) + data
