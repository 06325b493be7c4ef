"""Work that takes its time, watched by whoever wants to show how far it is.

The rooms that do the work lie below the one that draws, so the drawing comes to them, as it does to
the values that a notebook shows (displaying; decisions 0027 and 0035).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

Progress = Callable[[int, int], None]
"""Called with (done, in all), in bytes where nothing else is said, from any thread."""

Show = Callable[[str, str], AbstractContextManager[Progress | None]]
"""Shows a piece of work by its name and unit for as long as it lasts; gives whom to tell."""

BYTES: Final = "bytes"

_shown_by: list[Show] = []


def show_with(show: Show) -> None:
    """From now on work that nobody watches is shown by this."""
    _shown_by[:] = [show]


@contextmanager
def watched(
    what: str, progress: Progress | None = None, *, unit: str = BYTES
) -> Iterator[Progress | None]:
    """Whom to tell how far a piece of work is: `progress`, else who shows it; None where nobody.

    What tells nothing meanwhile is shown all the same, without an end in sight.
    """
    if progress is not None or not _shown_by:
        yield progress
        return
    with _shown_by[0](what, unit) as shown:
        yield shown
