"""The state of a pickle machine that can only build plain data, and the rules of what it builds.

Python's own machine resolves names and calls what they name. Here a name is a token, calling one
is a rule of this module, a tensor is a TensorRef: 15 names are known and none is imported.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from smartcash_format.spec import limits
from smartcash_format.spec.keys import Keys
from smartcash_format.spec.known_programs import Numbers
from smartcash_format.spec.program_memory import (
    CONTAINER,
    KIND,
    NUMBER,
    PLACE,
    SHARED,
    STORAGE,
    TENSOR,
    Memory,
    of_entries,
)
from smartcash_format.spec.refusal import Refused, shown
from smartcash_format.spec.tensor_refs import (
    STORAGE_TYPES,
    Storage,
    Storages,
    rebuild,
    storage_form,
)

# Each level of a value opens one mark; a tensor's arguments, storage and shape open one each.
_MARKS: Final = limits.PROGRAM_DEPTH + 3
# A storage each, and as many views again.
_TENSORS: Final = 2 * limits.TENSORS
# The opcodes of an integer, but for the longest.
_INTEGER: Final = rb"K.|M..|J.{4}|\x8a\x05.{5}"
_INT4, _LONG1 = ord("J"), 0x8A
_INTEGERS: Final = re.compile(_INTEGER, re.DOTALL)
_COUNTED: Final = re.compile(rb"(?=[KMJ\x8a])((?:K.)*)((?:M..)*)((?:%b)*)" % _INTEGER, re.DOTALL)
# Bytes of integers looked at together: for each a regular expression notes a hundred bytes, and a
# program of integers alone would take gigabytes before they are counted.
_TOGETHER: Final = 1 << 12
# Fewer in a row cost less as opcodes, and a program may have half a million such rows.
_ROW: Final = re.compile(rb"(?:%b){8}" % _INTEGER, re.DOTALL)


@dataclass(frozen=True, slots=True)
class Name:
    """A global of the allow-list, standing for itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


REBUILD: Final = Name("torch._utils", "_rebuild_tensor_v2")
ORDERED_DICT: Final = Name("collections", "OrderedDict")
COUNTER: Final = Name("collections", "Counter")
STORAGES: Final = frozenset(Name("torch", name) for name in STORAGE_TYPES)
# Stands in the memo for a part of a tensor that was read in one go, until somebody fetches it.
PART: Final = object()
CONTAINERS: Final = frozenset({dict, list, tuple})
NAMES: Final = frozenset({REBUILD, ORDERED_DICT, COUNTER}) | STORAGES


class Machine:
    """One run of one program: what is on its stack, what it has memoised, what it has named.

    Writers number what they memoise from 0 on without a gap, so the memo is a list.
    """

    def __init__(self, data: bytes, storages: Storages) -> None:
        self.data = data
        self.storages = storages
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        # Places below the last mark: a program may mark at every other opcode.
        self._below = 0
        self.memo: list[Any] = []
        self.names: set[Name] = set()
        # Of every tensor made: empty then, and once more looked at when all is done.
        self.hooks: list[dict[Any, Any]] = []
        # By identity what a value does not show: the object itself, so that the identity stays its
        # own, and ORDERED_DICT, COUNTER, or REBUILD for a tensor that wants gradients.
        self.kinds: dict[int, tuple[object, Name]] = {}
        # By identity the containers that may stand in more than one place, or in themselves. All
        # others stand where they were made.
        self.shared: set[int] = set()
        self.numbers = Numbers()
        self.memory = Memory()
        self._tensors = 0
        self._integers = 0
        self.keys = Keys()

    def mark(self) -> None:
        """Begins a stretch of the stack that a later opcode takes as a whole."""
        if len(self.marked) >= _MARKS:
            raise Refused("pickle-bounds", f"nests deeper than {limits.PROGRAM_DEPTH} levels")
        self.marked.append(self.stack)
        self._below += len(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        """What was pushed since the last mark, which now comes into a container."""
        items = self.stack
        if items:
            self.memory.taken += PLACE * len(items)
            # With their places on the stack, where they still stand.
            self.look_at_memory()
        self.stack = self.marked.pop()
        self._below -= len(self.stack)
        return items

    def extend(self, items: Iterable[Any]) -> None:
        """Appends to the list on top of the stack."""
        target = self.stack[-1]
        if type(target) is not list:
            raise Refused("pickle-structure", f"appends to {shown(target)}, which is no list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Puts keys and values, in turns, into the dict on top of the stack."""
        target, keys = self.stack[-1], items[::2]
        if type(target) is not dict or len(items) % 2:
            raise Refused("pickle-structure", f"sets items of {shown(target)}, or a key alone")
        if not items:
            return  # nobody writes that, and a program could a million times
        self.keys.check(keys)
        due = len(target) + len(keys)
        more = of_entries(due) - of_entries(len(target))
        # The places of its keys and values are among its entries.
        self.memory.take(more - PLACE * len(items), meanwhile=PLACE * len(items))
        target.update(zip(keys, items[1::2]))  # noqa: B905 - as many, by the check above
        if len(target) != due:
            raise Refused("pickle-structure", "sets a key of a dict twice")

    def name_storage(self, asked: object) -> Storage:
        """The storage that a persistent id names."""
        if type(asked) is tuple and len(asked) == 5 and asked[0] == "storage":
            _, kind, key, location, numel = asked
            if type(kind) is Name and kind in STORAGES and type(key) is str:
                storage = Storage(key, storage_form(kind.name, location, numel))
                self.storages.name(*storage)
                self.memory.take(STORAGE)
                return storage
        raise Refused("pickle-tensor", "has a persistent id that names no storage")

    def reduce(self, name: object, args: object) -> Any:
        """What calling a global of the allow-list with these arguments would give."""
        if type(name) is not Name or type(args) is not tuple:
            raise Refused("pickle-structure", f"calls {shown(name)}, which is no name")
        if name is REBUILD:
            tensor = rebuild(args)
            if args[4]:
                self._note(tensor, name)
            self.hooks.append(args[-1])
            self.count_tensors(1)
            self.memory.take(TENSOR)
            return tensor
        if name is ORDERED_DICT and not args:
            self.memory.take(CONTAINER)
            return self._note({}, name)
        if name is COUNTER and len(args) == 1 and type(args[0]) is dict:
            # A copy, as torch makes one: counted, or a large dict named often fills the memory.
            self.memory.take(CONTAINER + of_entries(len(args[0])))
            self.keys.check(args[0])
            for value in args[0].values():
                self.share(value)
            return self._note(dict(args[0]), name)
        raise Refused("pickle-structure", f"calls {name} with other arguments than its writers do")

    def _note(self, value: Any, kind: Name) -> Any:
        self.memory.take(KIND)
        self.kinds[id(value)] = value, kind
        return value

    def share(self, value: object) -> None:
        """Notes that a value, if it is a container, may stand in one more place."""
        if type(value) in CONTAINERS and id(value) not in self.shared:
            self.memory.take(SHARED)
            self.shared.add(id(value))

    def look_at_memory(self) -> None:
        """Sees that what was made fits beside the memo and what stands on the stack."""
        places = len(self.memo) + len(self.stack) + self._below
        self.memory.take(0, meanwhile=PLACE * places)

    def read_integers(self, at: int) -> int:
        """Pushes the integers whose opcodes stand here in a row, and gives where they end.

        0 where there are fewer than eight. An optimizer counts its parameters, a thousand integers
        of one byte, then of two; the state of a random generator is as many of up to 33 bits.
        """
        if _ROW.match(self.data, at) is None:
            return 0
        end = at
        number = int.from_bytes
        while (row := _COUNTED.match(self.data, end, end + _TOGETHER)) and row.end() > end:
            small, large, others = row.groups()
            mixed = _INTEGERS.findall(others)
            count = len(small) // 2 + len(large) // 3 + len(mixed)
            self.memory.taken += NUMBER * count
            self.look_at_memory()
            self._integers += count
            if self._integers > limits.PROGRAM_OPCODES:
                raise Refused("pickle-bounds", f"has more than {limits.PROGRAM_OPCODES:,} opcodes")
            self.stack += small[1::2]
            self.stack += struct.unpack("<" + "xH" * (len(large) // 3), large)
            # Without a call for each: a random generator has six hundred.
            self.stack += [
                number(opcode[2:], "little", signed=True)
                if opcode[0] == _LONG1
                else number(opcode[1:], "little", signed=opcode[0] == _INT4)
                for opcode in mixed
            ]
            end = row.end()
        return end if end > at else 0

    def count_tensors(self, count: int) -> None:
        """Keeps the number of tensors in its bound."""
        self._tensors += count
        if self._tensors > _TENSORS:
            raise Refused("pickle-bounds", f"has more than {_TENSORS:,} tensors")

    def stop(self) -> Any:
        """The program's result: all that is left."""
        self.look_at_memory()
        value = self.stack.pop()
        if self.stack or self.marked:
            raise Refused("pickle-structure", "stops with more than its result on the stack")
        if any(self.hooks):
            raise Refused("pickle-tensor", "adds hooks to a tensor after it was made")
        return value
