"""A bar for work that takes its time: rate and time left, in terminals and notebooks.

Nothing is drawn for what is done within a second, and nothing at all where nobody looks: in a pipe,
in CI, in a terminal that cannot move its cursor. It goes to standard error, and leaves nothing.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

PATIENCE_S: Final = 1.0

Update = Callable[[int, int], None]
"""Called with (bytes done, bytes in all), from any thread."""


@contextmanager
def progress_bar(
    what: str, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Update | None]:
    """What to call as the work goes on; None where no bar would be seen.

    The bar is gone when the block ends, however it ends.
    """
    console = console or Console(stderr=True)
    if not is_seen(console):
        yield None
        return
    drawing = _Drawing(what, console, clock)
    try:
        yield drawing.update
    finally:
        drawing.stop()


def is_seen(console: Console) -> bool:
    """Whether a bar on this console would be seen and could be drawn over."""
    if console.is_jupyter:
        # Without it rich can only warn.
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal and not console.is_dumb_terminal


class _Drawing:
    """A bar that appears when its work has taken a second."""

    def __init__(self, what: str, console: Console, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._what = what
        self._shown = False
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            get_time=clock,
        )

    def update(self, done: int, total: int) -> None:
        with self._lock:
            if not self._shown:
                if self._clock() - self._began < PATIENCE_S:
                    return
                self._shown = True
                # From its beginning: the rate is that of the whole work.
                self._task = self._progress.add_task(self._what, total=total)
                self._progress.tasks[0].start_time = self._began
                self._progress.start()
            self._progress.update(self._task, completed=done, total=total)

    def stop(self) -> None:
        with self._lock:
            if self._shown:
                self._progress.stop()
