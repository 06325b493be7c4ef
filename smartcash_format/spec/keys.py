"""What a state may have as keys of dicts and members of sets: no more than can be hashed quickly.

Python salts the hashes of text and of nothing else: numbers and tuples can be chosen so that each
is compared with all before it, and then n of them take n * n steps. One count for a whole program,
whether a dict is in it as a dict or in a tagged form (FORMAT.md, F-7.7).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from smartcash_format.spec import limits
from smartcash_format.spec.refusal import Refused

TYPE: Final = "$type"
# Tagged forms whose `items` are pairs, of which the first is a key, or members.
MAPPINGS: Final = frozenset({"dict", "OrderedDict", "Counter", "defaultdict"})
SETS: Final = frozenset({"set", "frozenset"})
# Text is salted, and of these others there are three.
_FREE: Final = frozenset({str, bool, type(None)})
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_TUPLE_ITEMS: Final = 64
_INT_KEYS: Final = 1 << 63
_END: Final = object()
_TOGETHER: Final = 1 << 12
# Below TENSORS integers can be made to meet in a few slots only: 3 microseconds each at worst.
_SMALL: Final = 2 * limits.TENSORS


class Keys:
    """The count of one program."""

    def __init__(self) -> None:
        self._small = 0
        self._others = 0
        self._looked_at = 0

    def check(self, keys: Collection[object]) -> None:
        """Counts the keys of a dict. Raises Refused for one that no dict here may have."""
        kinds = {*map(type, keys)}
        if kinds <= _FREE:
            return
        if kinds == {int} and min(keys) >= 0 and max(keys) < limits.TENSORS:  # type: ignore[type-var, operator]
            self._count(len(keys), 0)
            return
        others = [key for key in keys if type(key) not in _FREE]
        self._count(sum(map(_is_small, others)), sum(map(_cost, others)))

    def check_form(self, form: Mapping[Any, Any]) -> None:
        """Counts the keys or members of a tagged form that holds itself nowhere; a container costs
        the values in it.
        """
        items = form.get("items")
        if not isinstance(items, list | tuple):
            return
        # Forms may share their items: all are no more than the values that a program may reach.
        self._looked_at += len(items)
        if self._looked_at > limits.PROGRAM_VALUES:
            message = f"has more than {limits.PROGRAM_VALUES:,} keys and members in tagged forms"
            raise Refused("pickle-bounds", message)
        # By the thousand: together they may be as many as all values of a program.
        for begin in range(0, len(items), _TOGETHER):
            self._check_hashed(_hashed(form[TYPE], items[begin : begin + _TOGETHER]))

    def _check_hashed(self, keys: Sequence[object]) -> None:
        others = [key for key in keys if type(key) not in _FREE]
        if others:
            cost = _weight(key for key in others if not _is_small(key))
            self._count(sum(map(_is_small, others)), cost)

    def _count(self, small: int, cost: int) -> None:
        self._small += small
        if self._small > _SMALL:
            raise Refused("pickle-bounds", f"has more than {_SMALL:,} integers as keys")
        self._others += cost
        if self._others > limits.PROGRAM_KEYS:
            message = f"has more than {limits.PROGRAM_KEYS:,} keys of dicts or members of sets"
            message += f" that are neither text nor integers below {limits.TENSORS:,}"
            raise Refused("pickle-bounds", message, fix="keep them as text, or in a list")


def _hashed(kind: object, items: Sequence[Any]) -> Sequence[object]:
    """What a tagged form has as keys or members; nothing of a form that has none."""
    if type(kind) is not str:
        return ()
    if kind in SETS:
        return items
    if kind in MAPPINGS:
        return [pair[0] for pair in items if type(pair) in (list, tuple) and pair]
    return ()


def _weight(keys: Iterable[object]) -> int:
    """How many values are reached from these keys, themselves included, or more than allowed."""
    count = 0
    due = [iter(keys)]
    while due and count <= limits.PROGRAM_KEYS:
        value = next(due[-1], _END)
        if value is _END:
            due.pop()
            continue
        count += 1
        if isinstance(value, dict | list | tuple):
            # Inside of others it is a value, and what holds values.
            count += len(due) > 1
            due.append(iter(value.values() if isinstance(value, dict) else value))
    return count


def _is_small(key: object) -> bool:
    return type(key) is int and 0 <= key < limits.TENSORS


def _cost(key: object) -> int:
    if type(key) is not tuple:
        _check_scalar(key)
        return not _is_small(key)
    if len(key) > _TUPLE_ITEMS:
        raise Refused("pickle-bounds", f"has a tuple of more than {_TUPLE_ITEMS} items as a key")
    # Flat: hashing a tuple of tuples takes twice as long with each level.
    for item in key:
        _check_scalar(item)
    return 1 + len(key)


def _check_scalar(key: object) -> None:
    if type(key) not in _SCALARS:
        raise Refused("pickle-structure", f"has a key of the type {type(key).__name__}")
    if type(key) is int and not -_INT_KEYS < key < _INT_KEYS:
        raise Refused("pickle-bounds", "has a key beyond 64 bits")
