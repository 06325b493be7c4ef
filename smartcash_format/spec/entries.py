"""What an optimizer keeps of one parameter, a dict of tensors by name, read in one go.

A step, an average and an average of squares: a thousand such dicts are an optimizer's state. They
are found as single tensors are (rebuilds): by a regular expression, some hundred at a time, every
byte of a stretch looked at, and what is not in the one usual form left to the opcodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, islice
from operator import add
from typing import Any, Final, NamedTuple

from smartcash_format.spec.pickle_machine import REBUILD
from smartcash_format.spec.program_memory import CONTAINER, NAMED, TENSOR_AT_ONCE
from smartcash_format.spec.rebuilds import (
    GET,
    PUT,
    TENSOR,
    Form,
    Opcodes,
    TensorMachine,
    memo_number,
    memo_numbers,
)
from smartcash_format.spec.tensor_refs import StorageForm, Storages, TensorRef

# A name that was given before, and the function that rebuilds a tensor.
_NAMED: Final = rb"(%b)(%b)%b" % (GET, GET, TENSOR)
_ONE: Final = re.compile(_NAMED, re.DOTALL)
_OPENED: Final = re.compile(rb"%b\(?" % PUT, re.DOTALL)
# torch's optimizers keep up to four tensors of a parameter.
_MOST: Final = 8
_new: Final = tuple.__new__
# Kinds of entries that are kept: one each where all parameters differ in their shape.
_KEPT: Final = 1 << 10
# Entries found together: enough that each costs little, and few enough for the nearest cache.
_TOGETHER: Final = 128
# The groups of one tensor in an entry, in the order of `_NAMED`.
_GROUPS: Final = 16
_LENGTHS, _DIGITS = 3, 4
_PUTS: Final = (5, 7, 9, 11, 13, 14, 15)
# What is the same for all tensors of one form: name, function, and the opcodes of `rebuilds`.
_SAME: Final = (0, 1, 2, 6, 8, 10, 12)
# Where an entry ends, the number of its first memo, how many memos it has, the keys of its
# storages, what is the same for all entries of its form.
_Found = tuple[int, int, int, tuple[str, ...], Opcodes]


class _Kept(NamedTuple):
    """What is the same for all entries of one form: the names, the tensors, how many memos."""

    names: tuple[str, ...]
    forms: tuple[Form, ...]
    storages: tuple[StorageForm, ...]
    memos: int


class EntryMachine(TensorMachine):
    """A machine that reads dicts of tensors in one go where it can."""

    def __init__(self, data: bytes, storages: Storages) -> None:
        super().__init__(data, storages)
        self._kept: dict[Opcodes, _Kept] = {}
        self._entry_matches: Iterator[re.Match[bytes]] | None = None
        self._width = 0
        # By where they begin, those before `_entries_to` only.
        self._entries: dict[int, _Found] = {}
        self._entries_to = 0

    def read_entry(self, at: int) -> int:
        """Pushes the dict whose opcodes begin at `at`, after the one that makes it empty.

        Gives where they end, or 0 and changes nothing when they are in another form.
        """
        if at >= self._entries_to:
            self._find_entries(at)
        found = self._entries.get(at)
        if found is None:
            return 0
        end, first, count, keys, opcodes = found
        kept = self._kept.get(opcodes) or self._keep(opcodes)
        if kept is None or first != len(self.memo) or count != kept.memos:
            return 0
        self.memory.take(_of_entry(len(keys)))
        entry: dict[Any, Any] = {}
        memo = self.memo
        memo.append(entry)
        for name, (_, dtype, shape, stride, offset, numel, parts), key in zip(
            kept.names, kept.forms, keys, strict=True
        ):
            # What TensorRef(...) gives, in half of its time.
            tensor = _new(TensorRef, (dtype, shape, stride, offset, key, numel))
            memo += parts
            memo.append(tensor)
            entry[name] = tensor
        self.taken += zip(keys, kept.storages, strict=True)
        self.stack.append(entry)
        return end

    def _find_entries(self, at: int) -> None:
        """Finds entries that begin at `at` or behind it, with as many tensors as the first has."""
        if self._entry_matches is None:
            self._width = _tensors_at(self.data, at)
            if not self._width:
                return
            self._entry_matches = _entry(self._width).finditer(self.data, at)
        while at >= self._entries_to:
            # Or a program makes half a million tensors before it is found that it may not.
            self._look()
            together = list(islice(self._entry_matches, _TOGETHER))
            self._entries = _sound(together, self._width)
            more = len(together) == _TOGETHER
            self._entries_to = together[-1].start() + 1 if more else len(self.data) + 1

    def _keep(self, opcodes: Opcodes) -> _Kept | None:
        """What these opcodes say of an entry. Raises Refused as `form` does.

        None where that many are kept: its tensors are then read for themselves.
        """
        if len(self._kept) == _KEPT:
            return None
        names, forms = [], []
        for begin in range(0, len(opcodes), len(_SAME)):
            name, function, *of_tensor = opcodes[begin : begin + len(_SAME)]
            if max(memo_number(name), memo_number(function)) >= len(self.memo):
                return None
            form = self.form(tuple(of_tensor))
            names.append(self.memo[memo_number(name)])
            if form is None or self.memo[memo_number(function)] is not REBUILD:
                return None
            forms.append(form)
        if not all(type(name) is str for name in names) or len({*names}) < len(names):
            return None
        memos = 1 + sum(len(form.parts) + 1 for form in forms)
        kept = _Kept(
            tuple(names),
            tuple(forms),
            tuple(form.storage for form in forms),
            memos,
        )
        self._kept[opcodes] = kept
        return kept


def _of_entry(tensors: int) -> int:
    return NAMED + TENSOR_AT_ONCE * tensors + (CONTAINER if tensors > 5 else 0)


def _tensors_at(data: bytes, at: int) -> int:
    """How many tensors the entry has that begins here; 0 where none does."""
    opened = _OPENED.match(data, at)
    end = opened.end() if opened else 0
    count = 0
    while end and count < _MOST and (tensor := _ONE.match(data, end)):
        end = tensor.end()
        count += 1
    return count if count and _entry(count).match(data, at) else 0


@cache
def _entry(tensors: int) -> re.Pattern[bytes]:
    """The opcodes of an entry of so many tensors, behind the one that makes a dict."""
    # One item is set without a mark.
    form = rb"%b%bs" if tensors == 1 else rb"%b\(%bu"
    return re.compile(form % (PUT, _NAMED * tensors), re.DOTALL)


def _sound(matches: Sequence[re.Match[bytes]], tensors: int) -> dict[int, _Found]:
    """These entries by where they begin; none when one of them only looks like an entry.

    Looked at are the lengths of the keys, and that the memos of each are numbered in turn.
    """
    if not matches:
        return {}
    own_puts, *groups = zip(*[match.groups(b"") for match in matches], strict=True)
    each = [groups[begin : begin + _GROUPS] for begin in range(0, len(groups), _GROUPS)]
    for one in each:
        if b"".join(one[_LENGTHS]) != bytes(map(len, one[_DIGITS])):
            return {}
    puts = [own_puts, *(one[group] for one in each for group in _PUTS)]
    joined = [b"".join(row) for row in zip(*puts, strict=True)]
    counts = [len(row) // len(own_puts[0]) for row in joined]
    firsts = memo_numbers(b"".join(own_puts))
    due = map(range, firsts, map(add, firsts, counts))
    if memo_numbers(b"".join(joined)) != tuple(chain.from_iterable(due)):
        return {}
    keys = zip(*(b" ".join(one[_DIGITS]).decode().split(" ") for one in each), strict=True)
    opcodes = zip(*(one[group] for one in each for group in _SAME), strict=True)
    ends = [match.end() for match in matches]
    found = zip(ends, firsts, counts, keys, opcodes, strict=True)
    return dict(zip([match.start() for match in matches], found, strict=True))
