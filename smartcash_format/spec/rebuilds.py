"""The thirty opcodes that make a tensor, read in one go where they stand as writers write them.

An optimizer's state is a thousand tensors and little else; opcode by opcode they take five times
as long. Nothing is taken for granted: every byte of the stretch is looked at, and what is not in
the one usual form is left to the opcodes.
"""

from __future__ import annotations

import re
import struct
from itertools import chain
from operator import itemgetter
from typing import Any, Final, NamedTuple

from smartcash_format.spec.pickle_machine import ORDERED_DICT, STORAGES, Machine, Name
from smartcash_format.spec.refusal import Refused
from smartcash_format.spec.tensor_refs import (
    Storage,
    StorageForm,
    Storages,
    TensorRef,
    check_window,
    storage_form,
)

_GET: Final = rb"(?:h.|j.{4})"
# From the 256th memo on; before it a file is small.
_PUT: Final = rb"(r.{4})"
_INT: Final = rb"(?:K.|M..|J.{4})"
# A tuple of none, of one to three, of more.
_SIZES: Final = rb"(?:\)|I(?:\x85|I(?:\x86|I\x87))|\(I{4,64}t)".replace(b"I", _INT)
_TENSOR: Final = re.compile(
    # the persistent id: word, storage type, key, location, numel
    rb"\(\((%b%b)X(.)\0\0\0([0-9]{1,10})%b(%b%b)t%bQ" % (_GET, _GET, _PUT, _GET, _INT, _PUT)
    # offset and shape, stride, requires_grad and an empty OrderedDict of hooks
    + rb"(%b%b)%b?(%b)%b?\x89(%b)\)R%b" % (_INT, _SIZES, _PUT, _SIZES, _PUT, _GET, _PUT)
    # the tuple of these, the tensor
    + rb"t%bR%b" % (_PUT, _PUT),
    re.DOTALL,
)
# Groups of the match: the memos, and what else is looked at for many tensors together.
_PUTS: Final = itemgetter(3, 5, 7, 9, 11, 12, 13)
_PUT_BYTES: Final = 5
_LENGTH: Final = itemgetter(1)
_KEY: Final = itemgetter(2)
# Tensors looked at together: bounds what is kept of them.
_TOGETHER: Final = 2_000
_GETS: Final = re.compile(_GET, re.DOTALL)
_INTS: Final = re.compile(_INT, re.DOTALL)


class _Form(NamedTuple):
    """What is the same for all tensors of one dtype, shape and place."""

    kind: Name
    storage: StorageForm
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    numel: int
    # An empty tuple is not memoised.
    memoised: tuple[tuple[int, ...], ...]
    puts_bytes: int


class TensorMachine(Machine):
    """A machine that reads tensors in one go where it can."""

    def __init__(self, data: bytes, storages: Storages) -> None:
        super().__init__(data, storages)
        # By the opcodes that give them: a number in the memo is never given twice.
        self._forms: dict[tuple[bytes, ...], _Form] = {}
        # Of each tensor that is still to be looked at: the numbers due for its memos, its opcodes.
        self._numbers: list[range] = []
        self._groups: list[tuple[bytes, ...]] = []

    def read_tensor(self, at: int) -> int:
        """Pushes the tensor whose opcodes begin at `at`, after its function was fetched.

        Gives where they end, or 0 and changes nothing when they are in another form.
        """
        match = _TENSOR.match(self.data, at)
        if match is None:
            return 0
        groups = match.groups(b"")
        (
            gets, _, digits, _, place, _, window, shape_put, stride, stride_put, hooks_at, _, _, _,
        ) = groups  # fmt: skip
        opcodes = gets, place, window, stride, hooks_at
        form = self._forms.get(opcodes) or self._form(opcodes)
        if form is None or len(shape_put) + len(stride_put) != form.puts_bytes:
            return 0
        kind, storage, shape, strides, offset, numel, memoised, _ = form
        key = digits.decode()
        self.storages.name(key, storage)
        hooks: dict[Any, Any] = {}
        self.hooks.append(hooks)
        asked = "storage", kind, key, storage.location, storage.numel
        args = Storage(key, storage), offset, shape, strides, False, hooks
        tensor = TensorRef(storage.dtype, shape, strides, offset, key, numel)
        first = len(self.memo)
        self.memo += (key, asked, *memoised, hooks, args, tensor)
        self._numbers.append(range(first, len(self.memo)))
        self.stack.append(tensor)
        self._groups.append(groups)
        if len(self._groups) == _TOGETHER:
            self._look()
        return match.end()

    def stop(self) -> Any:
        """The program's result: all that is left."""
        self._look()
        return super().stop()

    def _look(self) -> None:
        """Looks at what read_tensor took for granted: the memos' numbers, the keys' lengths."""
        self.count_tensors(len(self._groups))
        puts = b"".join(chain.from_iterable(map(_PUTS, self._groups)))
        numbers = struct.unpack("<" + "xL" * (len(puts) // _PUT_BYTES), puts)
        if numbers != tuple(chain.from_iterable(self._numbers)):
            raise Refused("pickle-structure", "memoises parts of a tensor out of turn")
        lengths = b"".join(map(_LENGTH, self._groups))
        if lengths != bytes(map(len, map(_KEY, self._groups))):
            raise Refused("pickle-structure", "has the name of a storage with another length")
        self._numbers.clear()
        self._groups.clear()

    def _form(self, opcodes: tuple[bytes, ...]) -> _Form | None:
        """What these opcodes say of a tensor. Raises Refused when it reaches out of its storage."""
        gets, place, window, stride, hooks = opcodes
        (location, numel), (offset, shape) = _cut(_GETS, place), _cut(_INTS, window)
        fetched = self._fetched(*_GETS.findall(gets), location, hooks)
        if fetched is None:
            return None
        kind, device = fetched
        storage = storage_form(kind.name, device, _integer(numel))
        begin, sizes, strides = _integer(offset), _integers(shape), _integers(stride)
        elements = check_window(storage.numel, begin, sizes, strides)
        memoised = (sizes, strides) if sizes else ()
        puts_bytes = _PUT_BYTES * len(memoised)
        form = _Form(kind, storage, sizes, strides, begin, elements, memoised, puts_bytes)
        self._forms[opcodes] = form
        return form

    def _fetched(self, *gets: bytes) -> tuple[Name, str] | None:
        """The storage type and the location around a key, if all that is fetched there is due."""
        numbers = [int.from_bytes(get[1:], "little") for get in gets]
        if max(numbers) >= len(self.memo):
            return None
        word, kind, location, hooks = (self.memo[number] for number in numbers)
        if word != "storage" or type(location) is not str or hooks is not ORDERED_DICT:
            return None
        return (kind, location) if type(kind) is Name and kind in STORAGES else None


def _cut(pattern: re.Pattern[bytes], opcodes: bytes) -> tuple[bytes, bytes]:
    """The opcode that the pattern finds first, and the others."""
    first = pattern.match(opcodes)
    assert first is not None
    return opcodes[: first.end()], opcodes[first.end() :]


def _integers(opcodes: bytes) -> tuple[int, ...]:
    return tuple(map(_integer, _INTS.findall(opcodes)))


def _integer(opcode: bytes) -> int:
    # BININT is signed, BININT1 and BININT2 are not.
    return int.from_bytes(opcode[1:], "little", signed=opcode.startswith(b"J"))
