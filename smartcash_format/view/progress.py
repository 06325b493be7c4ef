"""A bar for work that takes its time: rate and time left, in terminals and notebooks.

Nothing is drawn for what is done within a second, and nothing at all where nobody looks: in a pipe,
in CI, in a terminal that cannot move its cursor, for work in another thread than the main one. It
goes to standard error, and leaves nothing.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol

from smartcash_format.spec.watching import BYTES, Progress
from smartcash_format.view import words

if TYPE_CHECKING:
    from rich.console import Console

PATIENCE_S: Final = 1.0
# A notebook keeps what it is sent: a few lines a second are enough to see something move.
_NOTEBOOK_S: Final = 0.3
_BAR_CHARACTERS: Final = 30
_NAME_CHARACTERS: Final = 60


@contextmanager
def progress_bar(
    what: str,
    *,
    unit: str = BYTES,
    console: Console | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress | None]:
    """What to call as the work goes on, in this unit; None where no bar would be seen.

    Inside the block of another bar it is a line below that. It is gone when the block ends, however
    it ends.
    """
    if console is None:
        console = _standard_error()
    if console is None or not is_seen(console):
        yield None
        return
    canvas: _Canvas = _Notebook(clock) if console.is_jupyter else _terminal
    bar = _Bar(words.harmless(what, _NAME_CHARACTERS), unit, console, canvas, clock)
    try:
        yield bar.update
    finally:
        bar.stop()


def is_seen(console: Console) -> bool:
    """Whether a bar on this console would be seen and could be drawn over."""
    if console.is_jupyter:
        return True
    # FORCE_COLOR makes a pipe a terminal for rich; it is none.
    return console.is_terminal and console.file.isatty() and not console.is_dumb_terminal


def _standard_error() -> Console | None:
    """The console that a person may look at; rich is not loaded where nobody does."""
    if threading.current_thread() is not threading.main_thread():
        return None
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not is_terminal and "IPython" not in sys.modules:
        return None
    from rich.console import Console

    return Console(stderr=True)


class _Bar:
    """One piece of work; it appears when that has taken a second, told or not."""

    def __init__(
        self,
        what: str,
        unit: str,
        console: Console,
        canvas: _Canvas,
        clock: Callable[[], float],
    ) -> None:
        self.what = what
        self.unit = unit
        self.console = console
        self.done = 0
        self.total: int | None = None
        self.began = clock()
        self._canvas = canvas
        self._clock = clock
        self._lock = threading.Lock()
        self._state = "waiting"
        self._timer = threading.Timer(PATIENCE_S, self._appear)
        self._timer.daemon = True
        self._timer.start()

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self.began

    def update(self, done: int, total: int) -> None:
        with self._lock:
            self.done, self.total = done, total
            if self._state == "waiting" and self.elapsed_s >= PATIENCE_S:
                self._state = "shown"
            if self._state == "shown":
                self._canvas.draw(self)

    def _appear(self) -> None:
        with self._lock:
            if self._state == "waiting":
                self._state = "shown"
                self._canvas.draw(self)

    def stop(self) -> None:
        self._timer.cancel()
        with self._lock:
            if self._state == "shown":
                self._canvas.erase(self)
            self._state = "over"

    def figures(self) -> str:
        """How much is done, how fast over all of it, and how long the rest takes; else how long."""
        elapsed = self.elapsed_s
        if not self.total:
            return _minutes(elapsed)
        rate = self.done / elapsed if elapsed > 0 else 0.0
        left = _minutes((self.total - self.done) / rate) if rate else "-:--"
        if self.unit != BYTES:
            return f"{self.done:,} of {self.total:,} {self.unit}, {left}"
        done, total = words.size(self.done), words.size(self.total)
        return f"{done} of {total}, {words.size(int(rate))}/s, {left}"


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Canvas(Protocol):
    """Where bars are drawn."""

    def draw(self, bar: _Bar) -> None: ...

    def erase(self, bar: _Bar) -> None: ...


class _Terminal:
    """All bars of a process: a line each, the outer above the inner."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._tasks: dict[_Bar, Any] = {}
        self._lock = threading.Lock()

    def draw(self, bar: _Bar) -> None:
        with self._lock:
            if self._progress is None:
                self._progress = _columns(bar.console)
                self._progress.start()
            if bar not in self._tasks:
                self._tasks[bar] = self._progress.add_task(bar.what, total=None, bar=bar)
            self._progress.update(self._tasks[bar], completed=bar.done, total=bar.total)

    def erase(self, bar: _Bar) -> None:
        with self._lock:
            task = self._tasks.pop(bar)
            if self._tasks:
                self._progress.remove_task(task)
            else:
                self._progress.stop()
                self._progress = None


def _columns(console: Console) -> Any:
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Figures(ProgressColumn):
        """rich's own rate is that of the last seconds since the bar appeared."""

        def render(self, task: Task) -> Text:
            return Text(task.fields["bar"].figures())

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(_BAR_CHARACTERS),
        Figures(),
        console=console,
        transient=True,
        # What the program prints goes above the bar where both are seen, else where it was sent.
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )


class _Notebook:
    """One bar as a line of text that is replaced; needs no widgets."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._drawn = -1.0
        self._handle: Any = None

    def draw(self, bar: _Bar) -> None:
        is_done = bar.total is not None and bar.done >= bar.total
        if self._handle and self._clock() - self._drawn < _NOTEBOOK_S and not is_done:
            return
        self._drawn = self._clock()
        full = round(_BAR_CHARACTERS * bar.done / bar.total) if bar.total else 0
        line = f"{bar.what} {'━' * full:{_BAR_CHARACTERS}} {bar.figures()}"
        self._show(f"<pre>{escape(line)}</pre>")

    def erase(self, bar: _Bar) -> None:
        self._show("")

    def _show(self, html: str) -> None:
        ipython = import_module("IPython.display")  # there, since it is what runs
        if self._handle is None:
            self._handle = ipython.display(ipython.HTML(html), display_id=True)
        else:
            self._handle.update(ipython.HTML(html))


_terminal = _Terminal()
