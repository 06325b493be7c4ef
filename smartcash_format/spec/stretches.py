"""What the programs of one training have in common, read once: a stretch of entries in a row.

From save to save an optimizer's program differs in its learning rates; what it says of a thousand
tensors stands there byte for byte as before. The same bytes at the same place of the memo, with the
same names in it, do the same again: what they did is kept, and done without reading them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from smartcash_format.spec.tensor_refs import StorageForm

# A stretch is looked up by how it begins.
_HEAD_BYTES: Final = 64
# How many are kept, and how long each may be: some megabytes in all.
_KEPT: Final = 4
_KEPT_BYTES: Final = 1 << 19
# Below it reading is as fast.
_FEWEST: Final = 8


class Stretch(NamedTuple):
    """The bytes from the first entry's opcodes up to the end of the last, and what they did."""

    data: bytes
    # How long the memo was, and what it had where the stretch fetches from it.
    first: int
    fetched: tuple[tuple[int, Any], ...]
    # Never given away: who takes a stretch gets copies.
    entries: tuple[dict[Any, Any], ...]
    # Those between the entries.
    keys: tuple[int, ...]
    # What came into the memo, and where in it the entries stand.
    memos: tuple[Any, ...]
    places: tuple[int, ...]
    storages: tuple[tuple[str, StorageForm], ...]


_stretches: dict[bytes, Stretch] = {}


def known_stretch(data: bytes, at: int, memo: Sequence[Any]) -> Stretch | None:
    """What was kept of the bytes that stand here, if they mean now what they meant then."""
    stretch = _stretches.get(data[at : at + _HEAD_BYTES])
    if stretch is None or len(memo) != stretch.first or not data.startswith(stretch.data, at):
        return None
    for number, value in stretch.fetched:
        now = memo[number]
        if type(now) is not type(value) or now != value:
            return None
    return stretch


def is_worth_keeping(entries: int, size_bytes: int) -> bool:
    """Whether a stretch of so many entries and bytes saves anything, and leaves room for others."""
    return entries >= _FEWEST and size_bytes <= _KEPT_BYTES


def is_too_long(size_bytes: int) -> bool:
    """Whether a stretch that has so many bytes by now will not be kept."""
    return size_bytes > _KEPT_BYTES


def keep_stretch(stretch: Stretch) -> None:
    """Keeps a stretch of a program without fault in place of the oldest."""
    head = stretch.data[:_HEAD_BYTES]
    _stretches.pop(head, None)
    _stretches[head] = stretch
    # Other threads do the same: what one looks at another may have removed.
    for oldest in list(_stretches)[:-_KEPT]:
        _stretches.pop(oldest, None)


def forget_stretches() -> None:
    """Keeps nothing any more."""
    _stretches.clear()
