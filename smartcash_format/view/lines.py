"""Which checkpoints a report draws as one line, and follows when it tells how weights moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from smartcash_format.store.entry import Entry
from smartcash_format.store.lineage import Branch


class Line(NamedTuple):
    """Checkpoints, oldest first, and the one of another line that the first came from."""

    entries: tuple[Entry, ...]
    fork: Entry | None


def drawn_lines(branches: Sequence[Branch]) -> list[Line]:
    """The lines of a root's branches: each branch is one.

    But checkpoints that were saved or converted one by one know of no other; they are one line as
    long as their epochs grow.
    """
    forks = {branch.forked_from for branch in branches}
    lines: list[Line] = []
    alone: int | None = None
    for branch in branches:
        (first, *more), fork = branch.entries, branch.forked_from
        if more or first in forks or first.parent_id is not None:
            lines.append(Line(branch.entries, fork))
        elif alone is not None and lines[alone].entries[-1].epoch < first.epoch:
            lines[alone] = Line((*lines[alone].entries, first), None)
        else:
            alone = len(lines)
            lines.append(Line(branch.entries, None))
    return lines
