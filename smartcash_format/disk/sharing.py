"""A file that two checkpoints share: linked once its bytes are known to be those that were saved.

A hard link has the rot of its source too, so no file is linked unseen. What was compared once in
this process is not read again, as long as nobody wrote to it since.
"""

from __future__ import annotations

from smartcash_format.disk.observe import observe
from smartcash_format.disk.publish import Stage
from smartcash_format.disk.read import Opened
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.rules import check


class SoundFiles:
    """The files whose bytes this process has compared with their digests."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[int, int, str]] = {}

    def link(self, opened: Opened, name: str, staged: Stage, as_name: str) -> str | None:
        """Links a weights file of an opened checkpoint into a stage; None, or why it was not.

        Then nothing has the name in the stage.
        """
        try:
            if (problem := self._problem(opened, name)) is not None:
                return problem
            facts = opened.facts(name)
            staged.link(as_name, opened.path / name, (facts.st_dev, facts.st_ino))
        except OSError as error:
            return f"{name}: {error.strerror or error}"
        return None

    def _problem(self, opened: Opened, name: str) -> str | None:
        """What is wrong with a file, its tensors and what tensors.json says of them."""
        facts = opened.facts(name)
        # Linking changes the time of the inode's own change, writing that of the data.
        inode = facts.st_dev, facts.st_ino
        state = facts.st_size, facts.st_mtime_ns, opened.meta.files[name].digest
        if self._known.get(inode) == state:
            return None
        observed = observe(opened, Depth.CONTENT, names=(layout.TENSORS, name))
        if problems := check(opened.meta, observed):
            return f"{problems[0].where} {problems[0].message}"
        self._known[inode] = state
        return None
