"""Python's garbage collector, kept quiet while thousands of small objects are made.

The collector runs by the number of objects made, and each full run looks at all that the process
holds: with torch imported that takes longer than saving a small model, or than listing a hundred
checkpoints. Nothing that these make is a cycle, so there is nothing to find (docs/decisions/0030).
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_paused = 0


@contextmanager
def collector_paused() -> Iterator[None]:
    """No collection begins by itself inside the block, in any thread; a user's own choice stands.

    Blocks may overlap; the last one to end starts the collector again if the first one stopped it.
    What another thread throws away meanwhile waits for the end of the block, if it is a cycle.
    """
    global _paused
    with _lock:
        stops = _paused or gc.isenabled()
        if stops:
            _paused += 1
            gc.disable()
    try:
        yield
    finally:
        if stops:
            with _lock:
                # Less than none after a fork inside the block.
                _paused = max(0, _paused - 1)
                if not _paused:
                    gc.enable()


def _begin_anew() -> None:
    """In a forked child there are no threads but one: none of those that paused the collector."""
    global _lock, _paused
    _lock = threading.Lock()
    if _paused:
        _paused = 0
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
