"""Many at one root: each member saves, lists, prunes, copies and holds, in an order of chance.

`python -m smartcash_format.testing.crowd ROOT SEED ROUNDS` is one member as a process; it prints
what it did as JSON.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from smartcash_format.disk.leftovers import leftovers
from smartcash_format.disk.observe import validate
from smartcash_format.disk.read import read_meta
from smartcash_format.disk.transfer import transfer
from smartcash_format.errors import CheckpointNotFoundError
from smartcash_format.manager.holding import hold
from smartcash_format.manager.log import Log
from smartcash_format.spec.problems import Depth
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.retention import KeepLast
from smartcash_format.testing.sample import write_sample

KEPT: Final = 6
_ACTS: Final = ("save", "save", "save", "list", "prune", "copy", "hold")


@dataclass(slots=True)
class Deeds:
    """What one member did: names saved, removed and copied, and what it saw that must not be."""

    saved: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    held: int = 0
    seen: list[str] = field(default_factory=list)


def target_of(root: Path) -> Path:
    """Where a crowd copies to."""
    return root.with_name(f"{root.name}-copies")


def take_part(root: Path, seed: int, rounds: int) -> Deeds:
    """So many deeds of one member; `seed` has to be its own. Raises whatever a deed raises."""
    chance = random.Random(seed)
    deeds = Deeds()
    store = CheckpointStore(root)
    for number in range(rounds):
        match chance.choice(_ACTS) if number else "save":
            case "save":
                path = write_sample(root, epoch=number, seed=seed)
                store.record_save(path, read_meta(path))
                deeds.saved.append(path.name)
            case "list":
                listing = store.list()
                deeds.seen += [f"broken: {one.path.name}: {one.reason}" for one in listing.broken]
                deeds.seen += [f"half: {path.name}" for path in listing.foreign]
            case "prune":
                done = store.apply(store.plan(KeepLast(KEPT)))
                deeds.removed += [path.name for path in done.paths]
            case "copy":
                sources = [entry.path for entry in store.list()[:2]]
                done_copies = transfer(sources, target_of(root))
                deeds.copied += [path.name for path in done_copies.copied]
            case _:
                _hold_one(store, chance, deeds)
    return deeds


def _hold_one(store: CheckpointStore, chance: random.Random, deeds: Deeds) -> None:
    listing = store.list()
    if not listing:
        return
    path = chance.choice(list(listing)).path
    try:
        with hold(path, Log(None)) as held:
            deeds.held += 1
            if not validate(held, Depth.CONTENT).valid:
                deeds.seen.append(f"held and not whole: {path.name}")
    except CheckpointNotFoundError:
        pass  # pruned before it was held, and said so


def broken_promises(root: Path, members: Sequence[Deeds]) -> list[str]:
    """What must not be after a crowd has left: lost checkpoints, halves, torn lines, leftovers."""
    store, found = CheckpointStore(root), [sight for deeds in members for sight in deeds.seen]
    saved = [name for deeds in members for name in deeds.saved]
    removed = [name for deeds in members for name in deeds.removed]
    standing = {entry.path.name for entry in store.list()}
    found += [f"lost: {name}" for name in set(saved) - set(removed) - standing]
    copies = CheckpointStore(target_of(root)).list()
    copied = [name for deeds in members for name in deeds.copied]
    if sorted(copied) != sorted(entry.path.name for entry in copies):
        found.append("copies are not what was copied")
    found += [
        f"not whole: {entry.path}"
        for entry in (*store.list(), *copies)
        if not validate(entry.path, Depth.CONTENT).valid
    ]
    history = store.events()
    # The first writers may both note what stood there before: twice is no loss.
    noted = {line.checkpoint for line in history.lines if line.event == "save"}
    if history.skipped or noted != set(saved):
        found.append(f"history: {history.skipped} torn, {len(noted)} of {len(saved)} saves noted")
    for place in (root, target_of(root)):
        if place.is_dir():
            found += [f"left over: {left.path}" for left in leftovers(place)]
    return found


if __name__ == "__main__":
    own = take_part(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(json.dumps(asdict(own)) + "\n")
