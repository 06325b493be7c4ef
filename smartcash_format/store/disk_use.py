"""What checkpoints take on the disk: by part, and what of each goes when it goes. By stat alone."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from smartcash_format.disk.leftovers import Leftover, leftovers
from smartcash_format.spec import layout
from smartcash_format.store.catalog import Listing
from smartcash_format.store.entry import Broken, Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointUse:
    """What one checkpoint takes: `exclusive_bytes` go when it is removed, `shared_bytes` stay.

    Shared is a file that has another name too: incremental saves and strips link weights.
    """

    entry: Entry
    exclusive_bytes: int
    shared_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUse:
    """What several checkpoints take together, each shared file counted once.

    `by_part` has the bytes of each role (weights, optimizer, ...), the largest first;
    `saved_bytes` is what sharing spares.
    """

    checkpoints: tuple[CheckpointUse, ...]
    by_part: Mapping[str, int]
    size_bytes: int
    saved_bytes: int


def disk_use(entries: Iterable[Entry]) -> DiskUse:
    """What these checkpoints take now; one that has gone meanwhile takes nothing.

    Reads names and sizes, no file. Counts lengths, not blocks.
    """
    seen: set[tuple[int, int]] = set()
    by_part: defaultdict[str, int] = defaultdict(int)
    uses = []
    every = 0
    for entry in entries:
        exclusive = shared = 0
        for name, facts in _files(entry):
            every += facts.st_size
            if facts.st_nlink > 1:
                shared += facts.st_size
                if (facts.st_dev, facts.st_ino) in seen:
                    continue
                seen.add((facts.st_dev, facts.st_ino))
            else:
                exclusive += facts.st_size
            by_part["meta" if name == layout.META else layout.role_of(name)[0]] += facts.st_size
        uses.append(CheckpointUse(entry=entry, exclusive_bytes=exclusive, shared_bytes=shared))
    size = sum(by_part.values())
    return DiskUse(
        checkpoints=tuple(uses),
        by_part=dict(sorted(by_part.items(), key=lambda item: -item[1])),
        size_bytes=size,
        saved_bytes=every - size,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What else takes space in the roots of a listing: how many of a kind, and their bytes."""

    kind: Literal["broken", "unfinished", "legacy"]
    count: int
    size_bytes: int


def beside(listing: Listing) -> tuple[Beside, ...]:
    """What lies beside the checkpoints of a listing: broken ones, what writers left, old files.

    What has gone meanwhile, or cannot be looked at, takes nothing.
    """
    roots = {entry.parent for entry in listing}
    roots |= {str(path.parent) for path in (*(b.path for b in listing.broken), *listing.legacy)}
    left = [leftover.size_bytes for root in sorted(roots) for leftover in _leftovers(root)]
    broken = [sum(facts.st_size for _, facts in _files(each)) for each in listing.broken]
    legacy = [_size(path) for path in listing.legacy]
    found = (
        Beside(kind="broken", count=len(broken), size_bytes=sum(broken)),
        Beside(kind="unfinished", count=len(left), size_bytes=sum(left)),
        Beside(kind="legacy", count=len(legacy), size_bytes=sum(legacy)),
    )
    return tuple(each for each in found if each.count)


def _leftovers(root: str) -> list[Leftover]:
    try:
        return leftovers(Path(root))
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _files(entry: Entry | Broken) -> list[tuple[str, os.stat_result]]:
    try:
        with os.scandir(entry.path) as found:
            named = [(each.name, each.stat(follow_symlinks=False)) for each in found]
    except OSError:
        return []
    return [(name, facts) for name, facts in named if stat.S_ISREG(facts.st_mode)]
