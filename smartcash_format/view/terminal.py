"""Where answers are printed: a terminal has a width and a reader, a pipe takes everything."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions
from rich.text import Text

# Wide enough that nothing is cut or folded where no person looks.
PIPED_WIDTH: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much of a text and of a list is shown before the rest is only counted; None is all."""

    characters: int | None
    lines: int | None
    names: int | None


# What a person still reads; whoever wants more pipes it, or asks for JSON.
SCREEN: Final = Room(characters=120, lines=60, names=12)
ENDLESS: Final = Room(characters=None, lines=None, names=None)


def is_terminal() -> bool:
    """Whether a person looks at standard output; FORCE_COLOR makes no terminal of a pipe."""
    return sys.stdout is not None and sys.stdout.isatty()


def room() -> Room:
    """How much is shown on standard output."""
    return SCREEN if is_terminal() else ENDLESS


@dataclass(frozen=True, slots=True)
class Hanging:
    """A text whose further lines stand in a little from its first one."""

    text: Text
    indent: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        first, *others = self.text.wrap(console, options.max_width - self.indent)
        yield first
        for line in others:
            yield Text(" " * self.indent) + line


def console() -> Console:
    """Standard output: as wide as the terminal, or uncut where it is none; NO_COLOR holds."""
    if is_terminal():
        return Console(highlight=False)
    return Console(highlight=False, width=PIPED_WIDTH)
