"""A file that two checkpoints share: linked once its bytes are known to be those that were saved.

A hard link has the rot of its source too, so no file is linked unseen. What was compared once in
this process is not read again, as long as nobody wrote to it since. Who restores the time of
writing, as rsync and cp can, still changes that of the inode. So does whoever makes or removes a
link: what we do ourselves is known, for others the file is compared again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from smartcash_format.disk.observe import observe
from smartcash_format.disk.publish import Stage
from smartcash_format.disk.read import Opened
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.rules import check


class SoundFiles:
    """The files whose bytes this process has compared with their digests."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _State] = {}

    def link(self, opened: Opened, name: str, staged: Stage, as_name: str) -> str | None:
        """Links a weights file of an opened checkpoint into a stage; None, or why it was not.

        Then nothing has the name in the stage.
        """
        try:
            if (problem := self._problem(opened, name)) is not None:
                return problem
            before = opened.facts(name)
            inode = before.st_dev, before.st_ino
            staged.link(as_name, opened.path / name, inode)
            self._note_own_change(before, opened.facts(name))
        except OSError as error:
            return f"{name}: {error.strerror or error}"
        return None

    @contextmanager
    def unlinking(self, directory: Path, names: Iterable[str]) -> Iterator[None]:
        """Around a removal of ours: it may take other links of these files of a checkpoint."""
        paths = [directory / name for name in names]
        before = [_facts(path) for path in paths]
        yield
        for path, facts in zip(paths, before, strict=True):
            now = _facts(path)
            if facts is not None and now is not None:
                self._note_own_change(facts, now)

    def _note_own_change(self, before: os.stat_result, after: os.stat_result) -> None:
        inode = before.st_dev, before.st_ino
        known = self._known.get(inode)
        same = (after.st_dev, after.st_ino, *_written(after)) == (*inode, *_written(before))
        if known is not None and same and known[:3] == (*_written(before), before.st_ctime_ns):
            self._known[inode] = (*_written(after), after.st_ctime_ns, known[3])

    def _problem(self, opened: Opened, name: str) -> str | None:
        """What is wrong with a file, its tensors and what tensors.json says of them."""
        facts = opened.facts(name)
        inode = facts.st_dev, facts.st_ino
        state = (*_written(facts), facts.st_ctime_ns, opened.meta.files[name].digest)
        if self._known.get(inode) == state:
            return None
        observed = observe(opened, Depth.CONTENT, names=(layout.TENSORS, name))
        if problems := check(opened.meta, observed):
            return f"{problems[0].where} {problems[0].message}"
        # Whoever copied it here may not have waited for the disk, and a link writes nothing.
        opened.sync(name)
        self._known[inode] = state
        return None


# Size, times of writing and of the inode's own change, and the digest that was compared.
_State = tuple[int, int, int, str]


def _written(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_size, facts.st_mtime_ns


def _facts(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None
