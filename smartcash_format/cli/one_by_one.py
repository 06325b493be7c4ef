"""One checkpoint after the other, with one bar over all: each alone may be too short to be seen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from smartcash_format.spec.watching import watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """One of them that did not come through, and why; the others went on."""

    source: Path
    reason: str

    def document(self) -> dict[str, str]:
        """What JSON output says of it."""
        return {"source": str(self.source), "reason": self.reason}


def one_by_one(what: str, paths: Sequence[Path]) -> Iterator[Path]:
    """Each path in its turn, while a bar under the name `what` tells how far in bytes they are."""
    if len(paths) < 2:
        yield from paths
        return
    sizes = [_size_bytes(path) for path in paths]
    total, done = sum(sizes), 0
    with watched(what) as tell:
        for path, size in zip(paths, sizes, strict=True):
            yield path
            done += size
            if tell is not None:
                tell(done, total)


def _size_bytes(path: Path) -> int:
    """What there is to read at a path; nothing where the system does not let it be looked at."""
    try:
        if not path.is_dir():
            return path.stat().st_size
        with os.scandir(path) as files:
            return sum(file.stat().st_size for file in files)
    except OSError:
        return 0
