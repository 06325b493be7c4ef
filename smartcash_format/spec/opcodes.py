"""What each opcode of a pickle program does to the machine, and which ones there are.

The 30 that torch.save and pickle's protocol 2 write for states; everything else is refused where
it stands (FORMAT.md, Torch files).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from smartcash_format.spec import limits
from smartcash_format.spec.entries import EntryMachine as Machine
from smartcash_format.spec.pickle_machine import CONTAINERS, NAMES, PART, REBUILD
from smartcash_format.spec.program_memory import (
    CONTAINER,
    NAME,
    NUMBER,
    PLACE,
    WIDER,
    of_long,
    of_text,
)
from smartcash_format.spec.refusal import Refused, shown

_PROTOCOL: Final = b"\x80\x02"
_STOP: Final = ord(".")
_GET1: Final = ord("h")
_GETS: Final = (_GET1, ord("j"))
_PUT1: Final = ord("q")
_PUTS: Final = (_PUT1, ord("r"))
_NAME_BYTES: Final = 200
# Opcodes after which it is seen what memory small values, memos and the stack take: less than a
# megabyte more.
_TOGETHER: Final = 1 << 12
_NAME_BY_TEXT: Final = {f"{name.module}\n{name.name}".encode(): name for name in NAMES}
# Why an opcode is refused that an attacker, or another writer, is likely to use.
_OTHERS: Final[Mapping[int, str]] = {
    ord("b"): "BUILD, which sets the state of an object",
    ord("i"): "INST, which calls a class",
    ord("o"): "OBJ, which calls a class",
    0x81: "NEWOBJ, which makes an object of a class",
    0x92: "NEWOBJ_EX, which makes an object of a class",
    0x93: "STACK_GLOBAL, which takes a name from the stack",
    0x82: "EXT1, which takes a name from a registry",
    0x83: "EXT2, which takes a name from a registry",
    0x84: "EXT4, which takes a name from a registry",
    0x80: "PROTO, a second time",
    ord("0"): "POP, which writers need for cycles only",
    ord("1"): "POP_MARK, which writers need for cycles only",
    0x8B: "LONG4, an integer of more than 2,040 bits",
    0x8F: "EMPTY_SET",
    0x91: "FROZENSET",
    0x96: "BYTEARRAY8",
    ord("B"): "BINBYTES",
    ord("C"): "SHORT_BINBYTES",
}
_U32: Final = struct.Struct("<L")
_I32: Final = struct.Struct("<l")
_F64: Final = struct.Struct(">d")


def run(machine: Machine) -> Any:
    """What the machine's program builds; may still be a name or a storage. Raises Refused."""
    if not machine.data.startswith(_PROTOCOL):
        raise Refused("pickle-opcode", "does not begin as a pickle of protocol 2 does")
    try:
        end = _run(machine, len(_PROTOCOL))
        value = machine.stop()
    except (IndexError, struct.error):
        message = "ends early, or takes from its stack or memo what is not there"
        raise Refused("pickle-structure", message) from None
    if end != len(machine.data):
        message = f"has {len(machine.data) - end:,} bytes after its end: a second program, or noise"
        raise Refused("pickle-structure", message)
    return value


def _run(machine: Machine, at: int) -> int:
    """Runs up to the first STOP and gives where it ends. Raises IndexError where there is none."""
    data, memo, steps = machine.data, machine.memo, _STEPS
    for begin in range(0, limits.PROGRAM_OPCODES, _TOGETHER):
        machine.look_at_memory()
        for _ in range(min(_TOGETHER, limits.PROGRAM_OPCODES - begin)):
            opcode = data[at]
            step = steps[opcode]
            if step is not None:
                at = step(machine, at + 1)
            # Half of all opcodes are these two: done here, without a call.
            elif opcode in _GETS:
                if opcode == _GET1:
                    index, at = data[at + 1], at + 2
                else:
                    index, at = _U32.unpack_from(data, at + 1)[0], at + 5
                value = memo[index]
                if value is REBUILD and (end := machine.read_tensor(at)):
                    at = end
                else:
                    if value is PART:
                        value = machine.fetch_part(index)
                    if type(value) in CONTAINERS:
                        machine.share(value)
                    machine.stack.append(value)
            elif opcode in _PUTS:
                if opcode == _PUT1:
                    index, at = data[at + 1], at + 2
                else:
                    index, at = _U32.unpack_from(data, at + 1)[0], at + 5
                if index != len(memo):
                    message = f"memoises {index:,} where {len(memo):,} is due, before byte {at:,}"
                    raise Refused("pickle-structure", message)
                memo.append(machine.stack[-1])
            elif opcode == _STOP:
                return at + 1
            else:
                raise _refused(opcode, at)
    raise Refused("pickle-bounds", f"has more than {limits.PROGRAM_OPCODES:,} opcodes")


def _refused(opcode: int, at: int) -> Refused:
    known = _OTHERS.get(opcode, f"0x{opcode:02x}")
    message = f"has an opcode that states do not need, at byte {at:,}: {known}"
    return Refused("pickle-opcode", message, found=known.partition(",")[0])


# Each step takes the machine and where its argument begins, and gives where the next opcode is.
# What is not there (a byte, a value, a memo) is an IndexError, which `run` names.
_Step = Callable[[Machine, int], int]


def _constant(make: Callable[[], Any]) -> _Step:
    def step(machine: Machine, at: int) -> int:
        machine.stack.append(make())
        return at

    return step


def _list(machine: Machine, at: int) -> int:
    machine.memory.take(CONTAINER)
    machine.stack.append([])
    return at


def _dict(machine: Machine, at: int) -> int:
    # An optimizer's state is a thousand dicts of tensors.
    if end := machine.read_entry(at):
        return end
    machine.memory.take(CONTAINER)
    machine.stack.append({})
    return at


def _int1(machine: Machine, at: int) -> int:
    machine.memory.taken += NUMBER
    machine.stack.append(machine.data[at])
    return at + 1


def _int2(machine: Machine, at: int) -> int:
    machine.memory.taken += NUMBER
    machine.stack.append(machine.data[at] | machine.data[at + 1] << 8)
    return at + 2


def _int4(machine: Machine, at: int) -> int:
    machine.memory.taken += NUMBER
    machine.stack.append(_I32.unpack_from(machine.data, at)[0])
    return at + 4


def _long(machine: Machine, at: int) -> int:
    end = at + 1 + machine.data[at]
    machine.memory.take(of_long(machine.data[at]))
    if end > len(machine.data):
        raise IndexError
    value = int.from_bytes(machine.data[at + 1 : end], "little", signed=True)
    if value.bit_length() > limits.PROGRAM_INTEGER_BITS:
        message = f"has an integer of more than {limits.PROGRAM_INTEGER_BITS:,} bits"
        raise Refused("pickle-bounds", message)
    machine.stack.append(value)
    return end


def _float(machine: Machine, at: int) -> int:
    machine.memory.taken += NUMBER
    (value,) = _F64.unpack_from(machine.data, at)
    machine.stack.append(value)
    machine.numbers.note(at, value)
    return at + 8


def _text(machine: Machine, at: int) -> int:
    length: int = _U32.unpack_from(machine.data, at)[0]
    end = at + 4 + length
    if end > len(machine.data):
        raise IndexError
    machine.memory.take(of_text(length))
    raw = machine.data[at + 4 : end]
    if not raw.isascii():
        machine.memory.take(WIDER * length)
    try:
        machine.stack.append(raw.decode())
    except UnicodeDecodeError:
        raise Refused("pickle-structure", f"has a text that is no UTF-8, at byte {at:,}") from None
    return end


def _mark(machine: Machine, at: int) -> int:
    machine.mark()
    return machine.read_integers(at) or at


def _tuple(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.memory.take(CONTAINER)
    machine.stack.append(tuple(items))
    return at


def _short_tuple(length: int) -> _Step:
    def step(machine: Machine, at: int) -> int:
        if len(machine.stack) < length:
            raise IndexError
        machine.memory.take(CONTAINER + PLACE * length)
        machine.stack[-length:] = [tuple(machine.stack[-length:])]
        return at

    return step


def _append(machine: Machine, at: int) -> int:
    item = machine.stack.pop()
    machine.memory.taken += PLACE
    machine.extend((item,))
    return at


def _appends(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.extend(items)
    return at


def _set_item(machine: Machine, at: int) -> int:
    value = machine.stack.pop()
    key = machine.stack.pop()
    machine.memory.taken += 2 * PLACE
    machine.set_items([key, value])
    return at


def _set_items(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.set_items(items)
    return at


def _global(machine: Machine, at: int) -> int:
    middle = machine.data.find(b"\n", at, at + _NAME_BYTES)
    end = machine.data.find(b"\n", middle + 1, middle + 1 + _NAME_BYTES)
    if min(middle, end) < 0:
        raise Refused("pickle-global", f"asks for a name without an end, at byte {at:,}")
    text = machine.data[at:end]
    name = _NAME_BY_TEXT.get(text)
    if name is None:
        asked = shown(text.replace(b"\n", b"."))
        message = f"asks for {asked}, which states do not need, at byte {at:,}"
        raise Refused("pickle-global", message, found=asked[1:-1])
    machine.memory.take(NAME)
    machine.names.add(name)
    machine.stack.append(name)
    return end + 1


def _persistent(machine: Machine, at: int) -> int:
    machine.stack.append(machine.name_storage(machine.stack.pop()))
    return at


def _reduce(machine: Machine, at: int) -> int:
    args = machine.stack.pop()
    machine.stack[-1] = machine.reduce(machine.stack[-1], args)
    return at


_STEP_BY_OPCODE: Final[Mapping[int, _Step]] = {
    ord("N"): _constant(lambda: None),
    0x88: _constant(lambda: True),
    0x89: _constant(lambda: False),
    ord(")"): _constant(tuple),
    ord("]"): _list,
    ord("}"): _dict,
    ord("K"): _int1,
    ord("M"): _int2,
    ord("J"): _int4,
    0x8A: _long,
    ord("G"): _float,
    ord("X"): _text,
    ord("("): _mark,
    ord("t"): _tuple,
    0x85: _short_tuple(1),
    0x86: _short_tuple(2),
    0x87: _short_tuple(3),
    ord("a"): _append,
    ord("e"): _appends,
    ord("s"): _set_item,
    ord("u"): _set_items,
    ord("c"): _global,
    ord("Q"): _persistent,
    ord("R"): _reduce,
}
_STEPS: Final = [_STEP_BY_OPCODE.get(opcode) for opcode in range(256)]
