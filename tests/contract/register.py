"""The register of broken examples: what each module of `broken_*` adds to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from smartcash_format.spec.problems import Depth

Files = dict[str, bytes]
META, STRUCTURE, CONTENT = Depth.META, Depth.STRUCTURE, Depth.CONTENT


@dataclass(frozen=True, slots=True)
class Breach:
    """An example: the files, and the first depth at which the code in its name is found."""

    depth: Depth
    make: Callable[[], Files]


INVALID: Final[dict[str, Breach]] = {}


def breach(name: str, depth: Depth, make: Callable[[], Files]) -> None:
    """One more example."""
    assert name not in INVALID, name
    INVALID[name] = Breach(depth, make)


def example(name: str, depth: Depth) -> Callable[[Callable[[], Files]], Callable[[], Files]]:
    """The same for a function that is its own."""

    def add(make: Callable[[], Files]) -> Callable[[], Files]:
        breach(name, depth, make)
        return make

    return add
