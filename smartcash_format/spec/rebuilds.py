"""The thirty opcodes that make a tensor, read in one go where they stand as writers write them.

An optimizer's state is a thousand tensors and little else; opcode by opcode they take ten times as
long. A regular expression finds them, some thousands at a time, what must hold is looked at for all
of them together, and the run takes each when it arrives there. Nothing is taken for granted: every
byte of the stretch is looked at, and what is not in the one usual form is left to the opcodes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from itertools import count as count_from
from operator import add
from typing import Any, Final, NamedTuple

from smartcash_format.spec.pickle_machine import ORDERED_DICT, PART, STORAGES, Machine, Name
from smartcash_format.spec.program_memory import (
    CONTAINER,
    LENGTH,
    PLACE,
    STORAGE,
    TENSOR_AT_ONCE,
)
from smartcash_format.spec.tensor_refs import (
    STORAGE_TYPES,
    Storage,
    StorageForm,
    Storages,
    TensorRef,
    check_window,
    storage_form,
)

GET: Final = rb"(?:h.|j.{4})"
# From the 256th memo on; before it a file is small.
PUT: Final = rb"(r.{4})"
_INT: Final = rb"(?:K.|M..|J.{4})"
# A tuple of none, of one to three, of more. The first has no number in the memo and all others have
# one, so that tensors of one form number as many.
_SIZES: Final = rb"(?:\)(?!r)|(?:I(?:\x85|I(?:\x86|I\x87))|\(I{4,64}t)(?=r))".replace(b"I", _INT)
TENSOR: Final = (
    # the persistent id: word, storage type, key, location, numel
    rb"\(\((%b%b)X(.)\0\0\0([0-9]{1,10})%b(%b%b)t%bQ" % (GET, GET, PUT, GET, _INT, PUT)
    # offset and shape, stride, requires_grad and an empty OrderedDict of hooks
    + rb"(%b%b)%b?(%b)%b?\x89(%b)\)R%b" % (_INT, _SIZES, PUT, _SIZES, PUT, GET, PUT)
    # the tuple of these, the tensor
    + rb"t%bR%b" % (PUT, PUT)
)
_TENSOR: Final = re.compile(TENSOR, re.DOTALL)
_PUT_BYTES: Final = 5
# Tensors found together: few at first, because a stretch that is known may follow; then enough that
# each costs little, and few enough for the nearest cache.
_FIRST: Final = 8
_TOGETHER: Final = 256
_KINDS: Final = {dtype: Name("torch", kind) for kind, (dtype, _) in STORAGE_TYPES.items()}
# Of one tensor what its opcodes make besides: its storage, and tuples of that and of all.
_MADE: Final = STORAGE + 2 * CONTAINER + 11 * PLACE
# Forms that are kept; views of one storage have one each.
_FORMS: Final = 1 << 10
_GETS: Final = re.compile(GET, re.DOTALL)
_INTS: Final = re.compile(_INT, re.DOTALL)
# The opcodes that are the same for all tensors of one dtype, shape and place.
Opcodes = tuple[bytes, ...]
# Where a tensor ends, the number of its first memo, how many memos it has, the key of its storage.
_Found = tuple[int, int, int, str, Opcodes]


class Form(NamedTuple):
    """What is the same for all tensors of one dtype, shape and place."""

    storage: StorageForm
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    numel: int
    # What stands in the memo for the parts of such a tensor until one is fetched.
    parts: tuple[object, ...]


class TensorMachine(Machine):
    """A machine that reads tensors in one go where it can."""

    def __init__(self, data: bytes, storages: Storages) -> None:
        super().__init__(data, storages)
        # By the opcodes that give them: a number in the memo is never given twice.
        self._forms: dict[Opcodes, Form] = {}
        self._places: dict[Opcodes, StorageForm] = {}
        self._matches: Iterator[re.Match[bytes]] | None = None
        # By where they begin, those before `_found_to` only.
        self._found: dict[int, _Found] = {}
        self._found_to = 0
        self._together = _FIRST
        # The storages of the tensors taken since the last look.
        self.taken: list[tuple[str, StorageForm]] = []

    def read_tensor(self, at: int) -> int:
        """Pushes the tensor whose opcodes begin at `at`, after its function was fetched.

        Gives where they end, or 0 and changes nothing when they are in another form.
        """
        if at >= self._found_to:
            self._find(at)
        found = self._found.get(at)
        if found is None:
            return 0
        end, first, count, key, opcodes = found
        form = self.form(opcodes)
        if form is None or first != len(self.memo) or count != len(form.parts) + 1:
            return 0
        storage, dtype, shape, stride, offset, numel, parts = form
        self.memory.take(TENSOR_AT_ONCE)
        tensor = TensorRef(dtype, shape, stride, offset, key, numel)
        self.memo += parts
        self.memo.append(tensor)
        self.stack.append(tensor)
        self.taken.append((key, storage))
        return end

    def fetch_part(self, index: int) -> Any:
        """A part of a tensor that was read in one go: they are made now, as its opcodes would."""
        last = next(at for at in count_from(index) if self.memo[at] is not PART)
        _, shape, stride, offset, key, _ = self.memo[last]
        self._look()
        form = self.storages.form(key)
        self.memory.take(_MADE)
        hooks: dict[Any, Any] = self.reduce(ORDERED_DICT, ())
        self.hooks.append(hooks)
        asked = "storage", _KINDS[form.dtype], key, form.location, form.numel
        args = Storage(key, form), offset, shape, stride, False, hooks
        parts = key, asked, *((shape, stride) if shape else ()), hooks, args
        self.memo[last - len(parts) : last] = parts
        return self.memo[index]

    def stop(self) -> Any:
        """The program's result: all that is left."""
        self._look()
        return super().stop()

    def _find(self, at: int) -> None:
        """Finds tensors that begin at `at` or behind it."""
        if self._matches is None:
            self._matches = _TENSOR.finditer(self.data, at)
        while at >= self._found_to:
            self._look()
            together = list(islice(self._matches, self._together))
            self._found = _sound(together)
            more = len(together) == self._together
            self._found_to = together[-1].start() + 1 if more else len(self.data) + 1
            self._together = _TOGETHER

    def _look(self) -> None:
        """Looks at the storages of the tensors that were taken."""
        self.count_tensors(len(self.taken))
        self.storages.name_all(self.taken)
        self.taken.clear()

    def form(self, opcodes: Opcodes) -> Form | None:
        """What these opcodes say of a tensor. Raises Refused when it reaches out of its storage."""
        if (known := self._forms.get(opcodes)) is not None:
            return known
        gets, place, window, stride, hooks = opcodes
        storage = self._stored_as(gets, place, hooks)
        if storage is None:
            return None
        (begin, *sizes_), strides = _integers(window), _integers(stride)
        sizes = tuple(sizes_)
        elements = check_window(storage.numel, begin, sizes, strides)
        # An empty tuple is not memoised.
        parts = (PART,) * (6 if sizes else 4)
        form = Form(storage, storage.dtype, sizes, strides, begin, elements, parts)
        # Beside the tensors it is part of: a kept one takes as much as several tensors do.
        self.memory.take(2 * CONTAINER + LENGTH * (2 * len(sizes) + 1))
        if len(self._forms) < _FORMS:
            self._forms[opcodes] = form
        return form

    def _stored_as(self, *opcodes: bytes) -> StorageForm | None:
        """What these opcodes say of a storage."""
        if (known := self._places.get(opcodes)) is not None:
            return known
        gets, place, hooks = opcodes
        location, numel = _cut(_GETS, place)
        numbers = tuple(map(memo_number, (*_GETS.findall(gets), location, hooks)))
        fetched = self._fetched(numbers)
        if fetched is None:
            return None
        kind, device = fetched
        stored = storage_form(kind.name, device, _integer(numel))
        if len(self._places) < _FORMS:
            self._places[opcodes] = stored
        return stored

    def _fetched(self, numbers: tuple[int, ...]) -> tuple[Name, str] | None:
        """The storage type and the location around a key, if all that is fetched there is due."""
        if max(numbers) >= len(self.memo):
            return None
        word, kind, location, hooks = (self.memo[number] for number in numbers)
        if word != "storage" or type(location) is not str or hooks is not ORDERED_DICT:
            return None
        return (kind, location) if type(kind) is Name and kind in STORAGES else None


def _sound(matches: Sequence[re.Match[bytes]]) -> dict[int, _Found]:
    """These tensors by where they begin; none when one of them only looks like a tensor.

    Looked at are the lengths of the keys, and that the memos of each are numbered in turn.
    """
    if not matches:
        return {}
    (
        gets, lengths, digits, key_puts, place, asked_puts, window, shape_puts, stride,
        stride_puts, hooks, hooks_puts, args_puts, tensor_puts,
    ) = zip(*[match.groups(b"") for match in matches], strict=True)  # fmt: skip
    if b"".join(lengths) != bytes(map(len, digits)):
        return {}
    columns = key_puts, asked_puts, shape_puts, stride_puts, hooks_puts, args_puts, tensor_puts
    counts = [
        5 + bool(shape) + bool(step) for shape, step in zip(shape_puts, stride_puts, strict=True)
    ]
    firsts = memo_numbers(b"".join(key_puts))
    due = map(range, firsts, map(add, firsts, counts))
    puts = b"".join(chain.from_iterable(zip(*columns, strict=True)))
    if memo_numbers(puts) != tuple(chain.from_iterable(due)):
        return {}
    keys = b" ".join(digits).decode().split(" ")
    opcodes = zip(gets, place, window, stride, hooks, strict=True)
    ends = [match.end() for match in matches]
    found = zip(ends, firsts, counts, keys, opcodes, strict=True)
    return dict(zip([match.start() for match in matches], found, strict=True))


def memo_number(get: bytes) -> int:
    """Which memo this opcode fetches."""
    return int.from_bytes(get[1:], "little")


def memo_numbers(opcodes: bytes) -> tuple[int, ...]:
    """The numbers that these opcodes give in the memo."""
    return struct.unpack("<" + "xL" * (len(opcodes) // _PUT_BYTES), opcodes)


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
