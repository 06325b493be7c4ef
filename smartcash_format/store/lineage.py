"""Which checkpoint came from which: after a resume from epoch 10 of 20 there are two branches.

Told by parent_id, which a save has from what its run resumed from or saved before; never by epochs.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smartcash_format.store.entry import Entry
from smartcash_format.store.history import read_history


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """Checkpoints that came one from the other, oldest first.

    `forked_from` is the checkpoint of another branch that the first came from, `is_current` says
    that the newest checkpoint is in it.
    """

    entries: tuple[Entry, ...]
    forked_from: Entry | None
    is_current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """The branches of one root, in the order in which they began."""

    branches: tuple[Branch, ...]
    _parents: Mapping[Entry, Entry | None]

    def ancestors(self, entry: Entry) -> tuple[Entry, ...]:
        """What a checkpoint came from, the nearest first."""
        found = []
        parent = self._parents.get(entry)
        while parent is not None:
            found.append(parent)
            parent = self._parents[parent]
        return tuple(found)


def lineages(entries: Iterable[Entry]) -> dict[str, Lineage]:
    """The lineage of each root that the entries lie in, by the root as the entries spell it.

    Each root's history is read, and bridges what is not among the entries.
    """
    roots: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        roots[entry.parent].append(entry)
    return {root: _trace(found, told(Path(root), found)) for root, found in roots.items()}


def told(root: Path, entries: Iterable[Entry]) -> dict[str, str | None]:
    """The ids of all that a root's history tells of, and those of their parents."""
    # A history that cannot be read costs what was removed, and no answer.
    with contextlib.suppress(OSError):
        return read_history(root, entries).parents()
    return {}


def lineage(
    entries: Iterable[Entry], removed: Mapping[str, str | None] | None = None
) -> tuple[Branch, ...]:
    """The branches that the checkpoints form, in the order in which they began.

    A resume from the end of a branch goes on with it; one from anywhere else begins another.
    `removed` maps the ids of checkpoints that are gone to their parents, as a history tells them.
    """
    return _trace(entries, {} if removed is None else removed).branches


def ancestors(
    entry: Entry, entries: Iterable[Entry], removed: Mapping[str, str | None] | None = None
) -> tuple[Entry, ...]:
    """What a checkpoint came from, the nearest first."""
    return _trace(entries, {} if removed is None else removed).ancestors(entry)


def _trace(entries: Iterable[Entry], removed: Mapping[str, str | None]) -> Lineage:
    # An entry that is given twice must not become its own parent.
    ordered = sorted(dict.fromkeys(entries), key=lambda entry: entry.order)
    parents = _parents(ordered, removed)
    branches: list[list[Entry]] = []
    branch_of_tip: dict[Entry, list[Entry]] = {}
    for entry in ordered:
        parent = parents[entry]
        branch = branch_of_tip.pop(parent, None) if parent is not None else None
        if branch is None:
            branch = []
            branches.append(branch)
        branch.append(entry)
        branch_of_tip[entry] = branch
    return Lineage(
        branches=tuple(
            Branch(
                entries=tuple(branch),
                forked_from=parents[branch[0]],
                is_current=branch[-1] is ordered[-1],
            )
            for branch in branches
        ),
        _parents=parents,
    )


def _parents(
    ordered: Sequence[Entry], removed: Mapping[str, str | None]
) -> dict[Entry, Entry | None]:
    """The nearest ancestor that is still there, for each; always one saved before it."""
    by_id: dict[str, Entry] = {}
    last_of_run: dict[str, Entry] = {}
    parents: dict[Entry, Entry | None] = {}
    for entry in ordered:
        found, is_known = _nearest(entry.parent_id, by_id, removed)
        if found is None and not is_known:
            # Its parent is gone and nobody knows whose child that was: its run went on.
            found = last_of_run.get(entry.run_id)
        parents[entry] = found
        by_id[entry.checkpoint_id] = last_of_run[entry.run_id] = entry
        if entry.derived_from is not None:
            # It stands in the place of what it was stripped from.
            by_id.setdefault(entry.derived_from, entry)
    return parents


def _nearest(
    checkpoint_id: str | None, by_id: Mapping[str, Entry], removed: Mapping[str, str | None]
) -> tuple[Entry | None, bool]:
    """The first of a chain of ids that is there, and whether the chain is known to its end."""
    passed: set[str] = set()
    while checkpoint_id is not None and checkpoint_id not in by_id:
        if checkpoint_id in passed or checkpoint_id not in removed:
            return None, False
        passed.add(checkpoint_id)
        checkpoint_id = removed[checkpoint_id]
    return (None, True) if checkpoint_id is None else (by_id[checkpoint_id], True)
