"""What is tried, what it tells its caller, and what has to hold in a root whatever happened to it.

After each run: every checkpoint that the operation was not asked to remove is whole, and one that
it was asked to remove stands until what it saves is there; what was reported as saved is there
and the newest, what was reported as protected or noted is so; one that is stripped is never gone
before its successor is whole; the next save works, and nothing is left over after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from smartcash_format.disk.leftovers import leftovers
from smartcash_format.disk.observe import validate
from smartcash_format.disk.read import read_meta
from smartcash_format.errors import CheckpointError
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Depth
from smartcash_format.store.catalog import Listing
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.testing.points import LOCAL, Mount

Word = Literal["begun", "saved", "pinned", "lifting", "noted"]
Tell = Callable[[Word, object], None]
"""Called by an operation with what its caller would now believe.

begun: its first byte goes out; saved: the path; pinned: the id that is protected, lifting: that it
will be no longer; noted: the event and the checkpoint's name, as they stand in the history.
"""
Told = Sequence[tuple[Word, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is tried: `prepare` fills a new root once, `run` works in copies of it.

    `removes` are the earlier checkpoints, counted from the oldest, that it is asked to remove, but
    not before so many new ones are there as it `saves`; `strips` are those that one derived from
    them may replace; `save_next` is the save that has to work afterwards.
    """

    name: str
    run: Callable[[Path, Tell], None]
    prepare: Callable[[Path], object]
    save_next: Callable[[Path], Path]
    removes: frozenset[int] = frozenset()
    strips: frozenset[int] = frozenset()
    saves: int = 0


def look(
    root: Path,
    earlier: Mapping[Path, str],
    told: Told,
    operation: Operation,
    mount: Mount = LOCAL,
) -> tuple[list[str], int]:
    """Every promise that does not hold in a root after something went wrong in it.

    And how many directories stand there that no reader takes for a checkpoint. `earlier` is what
    stood there before, as `standing` gives it.
    """
    store = CheckpointStore(root)
    listing = store.list()
    listed = {entry.path for entry in listing}
    whole = {path for path in listed if is_whole(path)}
    saved = [Path(text) for word, text in told if word == "saved"]
    may_be_gone, found = _gone(earlier, listing, whole, operation)
    must_stand = {path for path in (*earlier, *saved) if path not in may_be_gone}
    found += [f"lost: {path.name}" for path in must_stand - whole]
    found += [f"listed and not whole: {path.name}" for path in listed - whole]
    halves = [path for path in visible(root) if path not in listed]
    if mount.renames_at_once:
        found += [f"torn: {path.name}" for path in halves]
    if (newest := store.latest()) is None or newest.path not in whole:
        found.append("the newest is not whole")
    elif saved and newest.path in {*earlier, *saved[:-1]}:  # one that was not reported may be newer
        found.append(f"the newest is {newest.path.name}, not {saved[-1].name} that was saved last")
    try:
        next_one = operation.save_next(root)
    except (CheckpointError, OSError) as error:
        return [*found, f"the next save failed: {error!r}"], len(halves)
    after = (*(must_stand & whole), next_one)
    found += [f"lost by the next save: {path.name}" for path in after if not is_whole(path)]
    if (newest := store.latest()) is None or newest.path != next_one:
        found.append("the next save is not the newest")
    found += [f"left over: {left.path.name}" for left in leftovers(root)]
    return [*found, *_unkept(store, told)], len(halves)


def _gone(
    earlier: Mapping[Path, str],
    listing: Listing,
    whole: set[Path],
    operation: Operation,
) -> tuple[set[Path], list[str]]:
    """What an operation may have made vanish by now, and what it did too early."""
    paths = list(earlier)
    removed = {paths[i] for i in operation.removes} - whole
    if len(whole - earlier.keys()) < operation.saves:
        return set(), [f"removed before the save was there: {path.name}" for path in removed]
    derived = {entry.derived_from for entry in listing if entry.path in whole}
    stripped = {paths[i] for i in operation.strips if earlier[paths[i]] in derived}
    return removed | stripped, []


def _unkept(store: CheckpointStore, told: Told) -> list[str]:
    """What was told about pins and the history, and is not so."""
    pinned: set[str] = set()
    for word, text in told:
        if word == "pinned":
            pinned.add(text)
        elif word == "lifting":
            pinned.discard(text)
    found = [f"not protected: {checkpoint_id}" for checkpoint_id in pinned - {*store.protected()}]
    events = store.events()
    noted = {f"{line.event} {line.checkpoint}" for line in events.lines}
    found += [f"not in the history: {t}" for word, t in told if word == "noted" and t not in noted]
    if events.skipped > 1:
        found.append("more than one line of history is torn")
    return found


def standing(root: Path) -> dict[Path, str]:
    """The checkpoints of an undisturbed root by name, each with its id."""
    return {path: read_meta(path).checkpoint_id for path in visible(root)}


def visible(root: Path) -> list[Path]:
    """The directories in a root that are no stage, trash or pins."""
    return sorted(
        path for path in root.iterdir() if path.is_dir() and not layout.is_hidden(path.name)
    )


def is_whole(path: Path) -> bool:
    """Whether a checkpoint passes at CONTENT."""
    return validate(path, Depth.CONTENT).valid
