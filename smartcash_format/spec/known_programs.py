"""What the programs of one training have in common, read once: all but their numbers.

From save to save an optimizer's program differs in its learning rates: eight bytes each, at the
same places. Where all other bytes of a program are those of one that was without fault, and the
storages are as large, it builds the same value, with its own numbers where that one had others.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from smartcash_format.spec.keys import TYPE

# How many are kept, and how long each may be: some megabytes in all.
_KEPT: Final = 4
_KEPT_BYTES: Final = 1 << 19
# Below it reading is as fast.
_FEWEST_BYTES: Final = 1 << 13
# Numbers are set one by one: some for each group of an optimizer.
NUMBERS: Final = 256
# Places copied when all numbers change: that many take no longer than reading does.
_PLACES: Final = 1 << 16
_PLAIN: Final = frozenset({str, int, bool, type(None)})
_NUMBER: Final = struct.Struct(">d")
_Path = tuple[Any, ...]


@dataclass(slots=True)
class Numbers:
    """The floating-point numbers of a program: where the bytes of each stand, and itself."""

    places: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def note(self, place: int, value: float) -> None:
        """Notes one more; nothing when there are so many that the program is not kept."""
        if len(self.places) < NUMBERS:
            self.places.append(place)
            self.values.append(value)


class _Known(NamedTuple):
    # With zeros in place of the numbers.
    bare: bytes
    storages: Mapping[str, int]
    value: Any
    globals: frozenset[str]
    # Of each number where it stands, its bytes, and by which keys it is reached in the value.
    numbers: Sequence[tuple[int, bytes, Sequence[_Path]]]


_programs: dict[int, _Known] = {}


def known_program(data: bytes, storages: Mapping[str, int]) -> tuple[Any, frozenset[str]] | None:
    """The value and the names of a program that differs from a known one in numbers; else None.

    Nobody may change the value: programs share what they have in common.
    """
    known = _programs.get(len(data))
    if known is None:
        return None
    bare = _without(data, [at for at, _, _ in known.numbers])
    if bare != known.bare or storages != known.storages:
        return None
    value = known.value
    for at, before, paths in known.numbers:
        now = data[at : at + _NUMBER.size]
        if now != before:
            for path in paths:
                value = _with(value, path, _NUMBER.unpack(now)[0])
    return value, known.globals


def keep_program(
    data: bytes,
    storages: Mapping[str, int],
    numbers: Numbers,
    value: Any,
    names: frozenset[str],
    *,
    kinds: Container[int],
    shared: Container[int],
) -> None:
    """Keeps a program without fault in place of the oldest, if it saves anything to know it.

    `numbers` are the first `NUMBERS` that it has; `kinds` and `shared` have the identities of what
    is more than it looks, and of what may stand at several places. Not kept is a value with such a
    thing, but for tuples at several places that hold no container, as betas are; and one whose
    numbers are keys too, or members of a tagged form, or stand at too many places.
    """
    if not _FEWEST_BYTES <= len(data) <= _KEPT_BYTES or len(numbers.places) >= NUMBERS:
        return
    if TYPE.encode() in data:
        return
    paths: dict[int, list[_Path]] = {id(number): [] for number in numbers.values}
    copied = 0
    for path, places, part in _parts(value):
        if id(part) in kinds or (id(part) in shared and not _is_flat_tuple(part)):
            return
        if type(part) is dict and not _PLAIN.issuperset(map(type, part)):
            return
        if type(part) is float:
            paths.setdefault(id(part), []).append(path)
            copied += places
            if copied > _PLACES:
                return
    if len(paths) != len(numbers.values) or not all(paths.values()):
        return
    found = [
        (at, data[at : at + _NUMBER.size], paths[id(number)])
        for at, number in zip(numbers.places, numbers.values, strict=True)
    ]
    _programs.pop(len(data), None)
    bare = _without(data, numbers.places)
    _programs[len(data)] = _Known(bare, dict(storages), value, names, found)
    # Other threads do the same: what one looks at another may have removed.
    for oldest in list(_programs)[:-_KEPT]:
        _programs.pop(oldest, None)


def forget_programs() -> None:
    """Keeps nothing any more."""
    _programs.clear()


def _without(data: bytes, places: Sequence[int]) -> bytes:
    left = bytearray(data)
    for at in places:
        left[at : at + _NUMBER.size] = bytes(_NUMBER.size)
    return bytes(left)


def _is_flat_tuple(part: object) -> bool:
    # What a container in it is at one place it is at the others too: that is lost with new numbers.
    return type(part) is tuple and not any(type(item) in (dict, list, tuple) for item in part)


def _parts(value: Any) -> Iterator[tuple[_Path, int, Any]]:
    """All that is in a value, itself included, but texts, integers and the like.

    Each with the keys that lead to it, and how many places the containers on the way have.
    """
    due: list[tuple[_Path, int, Any]] = [((), 0, value)]
    while due:
        path, places, part = due.pop()
        yield path, places, part
        kind = type(part)
        if kind is not dict and kind is not list and kind is not tuple:
            continue
        items = part.items() if kind is dict else enumerate(part)
        places += len(part)
        # Not by recursion: each of thousands would then be handed up through all levels.
        due += [((*path, key), places, child) for key, child in items if type(child) not in _PLAIN]


def _with(value: Any, path: _Path, number: float) -> Any:
    """The same value with another number where the path leads."""
    key, *rest = path
    inner = _with(value[key], tuple(rest), number) if rest else number
    if type(value) is dict:
        return {**value, key: inner}
    return type(value)((*value[:key], inner, *value[key + 1 :]))
