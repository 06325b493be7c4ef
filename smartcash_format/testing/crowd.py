"""Many at one root: each member saves, lists, prunes, strips, copies and holds, as chance has it.

`python -m smartcash_format.testing.crowd ROOT SEED ROUNDS` is one member as a process; it prints
what it did as JSON. With `manager` behind, it saves through a CheckpointManager: incrementally, and
with `keep=`.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from smartcash_format.disk.leftovers import leftovers
from smartcash_format.disk.observe import validate
from smartcash_format.disk.strip import stripped_id
from smartcash_format.disk.transfer import transfer
from smartcash_format.errors import CheckpointNotFoundError
from smartcash_format.manager.holding import hold
from smartcash_format.manager.log import Log
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Depth
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.entry import Entry
from smartcash_format.store.retention import DropResumeState, KeepLast
from smartcash_format.testing import training
from smartcash_format.testing.sample import publish_sample

KEPT: Final = 6
Save = Callable[[Path, int, int], tuple[Path, Sequence[Path]]]
_ACTS: Final = ("save", "save", "save", "list", "prune", "strip", "copy", "hold")


@dataclass(slots=True)
class Deeds:
    """What one member did: names saved, removed and copied, and what it saw that must not be.

    `stripped` has the name of each checkpoint that it was to strip, and that of its successor.
    """

    saved: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    stripped: dict[str, str] = field(default_factory=dict)
    copied: list[str] = field(default_factory=list)
    held: int = 0
    seen: list[str] = field(default_factory=list)


def target_of(root: Path) -> Path:
    """Where a crowd copies to."""
    return root.with_name(f"{root.name}-copies")


def save_sample(root: Path, seed: int, number: int) -> tuple[Path, Sequence[Path]]:
    """A save without torch: its path, and nothing that went for it."""
    # Not read from the disk: by now another member may have removed it.
    path, meta = publish_sample(root, epoch=number, seed=seed)
    CheckpointStore(root).record_save(path, meta)
    return path, ()


def save_by_manager(root: Path, seed: int, number: int) -> tuple[Path, Sequence[Path]]:
    """An incremental save by a manager that keeps few: its path, and what it removed."""
    return training.save_and_keep(root, epoch=number, kept=KEPT)


def take_part(root: Path, seed: int, rounds: int, save: Save = save_sample) -> Deeds:
    """So many deeds of one member; `seed` has to be its own. Raises whatever a deed raises."""
    chance = random.Random(seed)
    deeds = Deeds()
    store = CheckpointStore(root)
    for number in range(rounds):
        match chance.choice(_ACTS) if number else "save":
            case "save":
                saved, removed = save(root, seed, number)
                deeds.saved.append(saved.name)
                deeds.removed += [path.name for path in removed]
            case "list":
                listing = store.list()
                deeds.seen += [f"broken: {one.path.name}: {one.reason}" for one in listing.broken]
                deeds.seen += [f"half: {path.name}" for path in listing.foreign]
            case "prune":
                done = store.apply(store.plan(KeepLast(KEPT)))
                deeds.removed += [path.name for path in done.paths]
            case "strip":
                plan = store.plan(KeepLast(KEPT) | DropResumeState(older_than=2))
                deeds.stripped |= {entry.name: _successor(entry) for entry in plan.stripped}
                deeds.removed += [path.name for path in store.apply(plan).paths]
            case "copy":
                sources = [entry.path for entry in store.list()[:2]]
                done_copies = transfer(sources, target_of(root))
                deeds.copied += [path.name for path in done_copies.copied]
            case _:
                _hold_one(store, chance, deeds)
    return deeds


def _successor(entry: Entry) -> str:
    return layout.directory_name(
        epoch=entry.epoch, step=entry.step, checkpoint_id=stripped_id(entry.checkpoint_id)
    )


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
    gone_or_there = {*removed, *(entry.path.name for entry in store.list())}
    for deeds in members:
        for name, successor in deeds.stripped.items():
            gone_or_there |= {name} if successor in gone_or_there else set()
    found += [f"lost: {name}" for name in set(saved) - gone_or_there]
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
    by = save_by_manager if sys.argv[4:] == ["manager"] else save_sample
    own = take_part(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), by)
    sys.stdout.write(json.dumps(asdict(own)) + "\n")
