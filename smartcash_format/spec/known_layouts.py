"""What the containers of one training have in common, looked at once: where their records lie.

From save to save the headers of an optimizer's container differ in its checksums and in nothing
else. Where all other bytes of them are those of a container that was without fault, and both
headers of each entry name the same checksum, its records lie where that one's did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import BinaryIO, Final, NamedTuple

from smartcash_format.spec.zip_columns import (
    heads_without_checksums,
    read_heads,
    same_checksums,
    without_checksums,
)
from smartcash_format.spec.zip_headers import Directory, Record, Rows

# How many are kept, and how long a directory each may have: some megabytes in all.
_KEPT: Final = 4
_KEPT_BYTES: Final = 1 << 19
# Below it looking is as fast.
_FEWEST: Final = 64


class Layout(NamedTuple):
    """The fixed records of an archive by their names, its storages, with sizes, by their keys."""

    fixed: Mapping[str, Record]
    storages: Mapping[str, Record]
    sizes: Mapping[str, int]


class _Known(NamedTuple):
    # Without checksums, as the headers in each of the rows.
    directory: Directory
    rows: Sequence[Rows]
    layout: Layout


_layouts: dict[tuple[int, int], _Known] = {}


def known_layout(stream: BinaryIO, directory: Directory) -> Layout | None:
    """Where the records lie of an archive with the headers of one that is known; None of another.

    Reads the entries' own headers.
    """
    data = directory.data
    known = _layouts.get((len(data), directory.begin))
    if known is None or _without_checksums(directory, known.rows) != known.directory:
        return None
    for rows in known.rows:
        heads = read_heads(stream, rows.offsets, rows.own_step)
        # A file that has become shorter, or a mount with small reads, gives fewer bytes.
        if len(heads) != len(rows.heads):
            return None
        if heads_without_checksums(heads, rows.own_step) != rows.heads:
            return None
        if not same_checksums(data, rows, heads):
            return None
    return known.layout


def keep_layout(directory: Directory, rows: Sequence[Rows], layout: Layout) -> None:
    """Keeps the layout of an archive without fault in place of the oldest.

    `rows` has all of its entries: as they were read by columns, empty where they were not.
    """
    if not rows or directory.entries < _FEWEST or len(directory.data) > _KEPT_BYTES:
        return
    bare = [
        each._replace(heads=heads_without_checksums(each.heads, each.own_step)) for each in rows
    ]
    key = (len(directory.data), directory.begin)
    _layouts.pop(key, None)
    _layouts[key] = _Known(_without_checksums(directory, rows), bare, layout)
    # Other threads do the same: what one looks at another may have removed.
    for oldest in list(_layouts)[:-_KEPT]:
        _layouts.pop(oldest, None)


def _without_checksums(directory: Directory, rows: Sequence[Rows]) -> Directory:
    return directory._replace(data=without_checksums(directory.data, rows))


def forget_layouts() -> None:
    """Keeps nothing any more."""
    _layouts.clear()
