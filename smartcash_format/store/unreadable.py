"""Was a checkpoint that cannot be read saved after all that can? What still tells of its time.

Its own meta.json, where that is whole and another file is what is wrong; else the root's history.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from smartcash_format.disk import peek
from smartcash_format.spec.history import HistoryLine, printable
from smartcash_format.spec.meta import parse_meta
from smartcash_format.spec.refusal import Refused
from smartcash_format.store.entry import Broken


def last_after(
    moment: datetime, broken: Iterable[Broken], lines: Iterable[HistoryLine]
) -> Broken | None:
    """Of those known to be saved after this moment the last; None where none is known to be."""
    noted = {line.checkpoint: line.at for line in lines if line.event == "save"}
    found = [(_saved_at(each) or noted.get(printable(each.path.name)), each) for each in broken]
    later = [(at, each) for at, each in found if at is not None and at > moment]
    return max(later, key=lambda pair: pair[0])[1] if later else None


def _saved_at(broken: Broken) -> datetime | None:
    try:
        meta, _ = parse_meta(peek.meta_bytes(str(broken.path)))
    except (OSError, Refused):
        return None
    return None if meta is None else meta.saved_at
