"""Power loss: what a disk may hold when everything that was not fsynced came late or never.

The calls of an operation are replayed on a model of a disk. Data reach it when their file is
fsynced, names when their directory is; until then any part of them may be there: each change of a
name or none, each write whole, half, as zeros, or not at all, all independent of each other. That
is more than ext4 or xfs may lose, which keep the order of a directory's changes, and what POSIX
allows. A rename is one change: it never loses both names.

Each state of this model is looked at, or one that no reader tells from it. Proof: a state is what
is left after so many calls, a subset of the changes of names that wait then, and of each file that
was not fsynced one outcome of its writes. All numbers of calls, all subsets of the changes that
touch a visible directory, and all outcomes of the files that are visible then are gone through.
What is left out differs from a state that is looked at only below `.staging-*` and `.trash-*`: a
change is set aside only where each place that its directory may have, durable or by a change that
waits, is below one of these names, and data only where their file is. Readers pass over such names
(FORMAT.md, F-1.7), and who clears them asks for the names and deletes whatever is there. That this
gets along with any remains is what drawn states of all kinds are for.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from smartcash_format.testing.forgetful_disk import Disk, Tree, is_leftover
from smartcash_format.testing.points import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a power cut may leave after so many calls, for as many combinations as `stands_for`.

    Two states of one `key` are the same for every reader. A drawn one stands for none.
    """

    calls: int
    tree: Tree
    key: bytes
    stands_for: int


def states(
    baseline: Path, events: Sequence[Event], *, draws: int, seed: int = 0
) -> Iterator[State]:
    """The states that a power cut may leave before, between and after these calls.

    Those that are found twice are given twice.
    """
    disk = Disk(baseline)
    chance = random.Random(seed)
    for calls in range(len(events) + 1):
        if calls:
            disk.apply(events[calls - 1])
        for tree, ways in disk.states():
            yield State(calls=calls, tree=tree, key=fingerprint(tree, is_leftover), stands_for=ways)
        for _ in range(draws):
            tree = disk.drawn(chance)
            yield State(calls=calls, tree=tree, key=fingerprint(tree), stands_for=0)


def combinations(baseline: Path, events: Sequence[Event]) -> int:
    """For how many combinations the states together stand, when each is gone through."""
    disk = Disk(baseline)
    count = disk.combinations()
    for event in events:
        disk.apply(event)
        count += disk.combinations()
    return count


def fingerprint(tree: Tree, by_names: Callable[[str], bool] = lambda name: False) -> bytes:
    """What two trees have in common that are the same; of what lies below such names, the names."""
    running = hashlib.sha256()
    for path, data in sorted(tree.items()):
        held = None if by_names(path.partition("/")[0]) else data
        kind = "directory" if data is None else f"{len(held or b'')} bytes"
        running.update(f"{path}\0{kind}\0".encode("utf-8", "surrogateescape"))
        running.update(held or b"")
    return running.digest()


def make(tree: Tree, target: Path) -> None:
    """Makes a state on the disk; directories stand before what is in them."""
    for path, data in tree.items():
        if data is None:
            (target / path).mkdir()
        else:
            (target / path).write_bytes(data)
