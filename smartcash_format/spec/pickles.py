"""Torch files as data: what one would load to, read without torch and without unpickling anything.

`torch.load(weights_only=True)` is not the boundary: an environment variable or a monkey patch
turns it off, and it takes cycles, lists of 10^12 nodes and tensors larger than their storage. What
passes here is plain data and tensors that are really there (FORMAT.md, Torch files).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, BinaryIO, Final

from smartcash_format.spec import limits
from smartcash_format.spec.archive import read_archive
from smartcash_format.spec.archive_layout import PROGRAM
from smartcash_format.spec.entries import EntryMachine
from smartcash_format.spec.keys import TYPE
from smartcash_format.spec.known_programs import keep_program, known_program
from smartcash_format.spec.opcodes import run
from smartcash_format.spec.pickle_machine import CONTAINERS, Name
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.refusal import Refused, shown
from smartcash_format.spec.stored_zip import Record, read_at
from smartcash_format.spec.tensor_refs import Storages, TensorRef

__all__ = ["Program", "TensorRef", "TorchFile", "read_program", "scan_torch_file"]

# Compared, not asked for their ancestry: these types and no other.
_LEAVES: Final = frozenset({str, int, float, bool, type(None), TensorRef})
_OPEN: Final = (0, 0)
# Of what is kept for the next program: walking over more takes longer than is saved.
_FEW: Final = 1 << 15
Kinds = Mapping[int, tuple[object, Name]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a pickle program builds, and the names it asks for, as "module.name".

    `value` is made of dict, list, tuple, str, int, float, bool, None and TensorRef. Containers may
    be shared, as in the program, and with the value of another program: nobody changes them. None
    holds itself. `kinds` has by the identity of a dict or a TensorRef what it would be: the
    OrderedDict or Counter of collections, or a tensor that wants gradients (the name of torch's
    rebuilding).
    """

    value: Any
    globals: frozenset[str]
    kinds: Kinds = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchFile:
    """A torch file that only holds data: what it would load to, as a Program, and its storages.

    `storages` has each storage's key and where its bytes lie in the file.
    """

    value: Any
    globals: frozenset[str]
    storages: Mapping[str, Record]
    kinds: Kinds = field(default_factory=dict, compare=False)


def scan_torch_file(
    stream: BinaryIO, size_bytes: int, *, where: str
) -> tuple[TorchFile | None, tuple[Problem, ...]]:
    """What a torch file holds, or None and the first thing that makes it unfit to load.

    Reads the container's directory and headers and the program, never a storage. `size_bytes` is
    the size of the file that `stream` reads, `where` its name in the problem.
    """
    archive, problems = read_archive(stream, size_bytes, where=where)
    if archive is None:
        return None, problems
    where = f"{where}: {PROGRAM}"
    try:
        program = _program(_read_program(stream, archive.program), archive.sizes)
    except Refused as refused:
        return None, (refused.problem(where),)
    file = TorchFile(
        value=program.value,
        globals=program.globals,
        storages=archive.storages,
        kinds=program.kinds,
    )
    return file, ()


def read_program(
    data: bytes, *, where: str, storages: Mapping[str, int]
) -> tuple[Program | None, tuple[Problem, ...]]:
    """What a pickle program builds, or None and the first thing in it that states do not need.

    `storages` has the size in bytes of each record that the program may name, and must name.
    """
    try:
        return _program(data, storages), ()
    except Refused as refused:
        return None, (refused.problem(where),)


def _read_program(stream: BinaryIO, record: Record) -> bytes:
    _check_length(record.size_bytes)
    return read_at(stream, *record)


def _check_length(size_bytes: int) -> None:
    if size_bytes > limits.PROGRAM_BYTES:
        message = f"has {size_bytes:,} bytes; at most {limits.PROGRAM_BYTES:,} are allowed"
        raise Refused("pickle-bounds", message)


def _program(data: bytes, storages: Mapping[str, int]) -> Program:
    _check_length(len(data))
    if (known := known_program(data, storages)) is not None:
        value, names = known
        return Program(value=value, globals=names)
    named = Storages(storages)
    machine = EntryMachine(data, named)
    value = run(machine)
    count = _count(value, machine)
    named.check_all_named()
    names = frozenset(map(str, machine.names))
    if count <= _FEW:
        keep_program(
            data, storages, machine.numbers, value, names,
            kinds=machine.kinds, shared=machine.shared,
        )  # fmt: skip
    return Program(value=value, globals=names, kinds=machine.kinds)


def _count(value: Any, machine: EntryMachine) -> int:
    """The values in a value, itself included.

    Raises Refused for what is no data, a cycle, and more values or levels than allowed.
    """
    if type(value) in CONTAINERS:
        return _Scales(machine).weigh(value, limits.PROGRAM_DEPTH)[0]
    if type(value) not in _LEAVES:
        raise _no_data(value)
    return 1


class _Scales:
    """How many values are reached from a container, itself and shared ones included, and how deep.

    Known are, by identity, those that may be met again, `_OPEN` what is just being weighed.
    """

    def __init__(self, machine: EntryMachine) -> None:
        self._keys = machine.keys
        self._shared = machine.shared
        self._known: dict[int, tuple[int, int]] = {}

    def weigh(self, value: Any, levels: int) -> tuple[int, int]:
        if not levels:
            raise Refused("pickle-bounds", f"nests deeper than {limits.PROGRAM_DEPTH} levels")
        # To know every container would take more memory than they do.
        is_shared = id(value) in self._shared
        if is_shared:
            self._known[id(value)] = _OPEN
        count, height = 1 + len(value), 1
        children = value.values() if type(value) is dict else value
        if _LEAVES.issuperset(map(type, children)):
            children = ()
        elif levels > 1 and (flat := self._weigh_flat(children)):
            count += flat
            height, children = 2, ()
        for child in children:
            if type(child) in _LEAVES:
                continue
            if type(child) not in CONTAINERS:
                raise _no_data(child)
            inner = self._known.get(id(child)) or self.weigh(child, levels - 1)
            if inner is _OPEN:
                raise Refused("pickle-structure", "has a container that holds itself")
            count += inner[0]
            height = max(height, 1 + inner[1])
        if count > limits.PROGRAM_VALUES or height > limits.PROGRAM_DEPTH:
            message = (
                f"shares containers until more than {limits.PROGRAM_VALUES:,} values are reached"
            )
            raise Refused("pickle-bounds", message)
        if type(value) is dict and TYPE in value:
            self._keys.check_form(value)
        if is_shared:
            self._known[id(value)] = count, height
        return count, height

    def _weigh_flat(self, children: Collection[Any]) -> int:
        """What dicts of leaves weigh together that are no tagged forms, as what an optimizer keeps.

        0 where one is something else, or is shared: then each is weighed for itself, and once.
        """
        if {*map(type, children)} != {dict}:
            return 0
        if not self._shared.isdisjoint(map(id, children)):
            return 0
        if not _LEAVES.issuperset(map(type, chain.from_iterable(map(dict.values, children)))):
            return 0
        if any(map(dict.__contains__, children, repeat(TYPE))):
            return 0
        return len(children) + sum(map(len, children))


def _no_data(value: object) -> Refused:
    return Refused("pickle-structure", f"keeps {shown(value)} as a value; that is no data")
