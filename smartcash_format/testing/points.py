"""What may go wrong, and where: points, faults, and mounts that can do less than a local disk."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One mutating call: the nth of its kind on this path, relative to the root."""

    op: str
    path: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.op} {self.path} #{self.nth}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens at a point.

    kill: the process gets SIGKILL instead of the call; tear: half of a write is made first;
    fail: the call fails with `errno`, or `lasting`ly every later one fails too, as on a full disk,
    on a mount that turned read-only, or on a device that is gone. Power loss strikes elsewhere.
    """

    effect: Literal["kill", "tear", "fail", "power", "random"]
    errno: int = 0
    lasting: bool = False

    @property
    def name(self) -> str:
        """What a table calls it."""
        if self.effect != "fail":
            return _EFFECTS[self.effect]
        name = errno.errorcode[self.errno]
        return f"{name} from there on" if self.lasting else name


_EFFECTS: Final = {
    "kill": "SIGKILL",
    "tear": "SIGKILL in a write",
    "power": "power loss",
    "random": "killed at a random moment",
}
# Not at a point: the whole of what power.py replays, and a timer.
POWER: Final = Fault(effect="power")
RANDOM: Final = Fault(effect="random")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """How storage behaves that can do less than a local disk."""

    name: str
    renames_children: bool = False
    refuses_directory_rename: int = 0
    links: bool = True
    modes: bool = True
    syncs_directories: bool = True

    @property
    def renames_at_once(self) -> bool:
        """Whether nobody ever sees half of a directory that is renamed."""
        return not self.renames_children and not self.refuses_directory_rename


LOCAL: Final = Mount(name="local")
FLAT: Final = Mount(name="renames child by child", renames_children=True)
DRIVE: Final = Mount(
    name="like Drive", renames_children=True, links=False, modes=False, syncs_directories=False
)
REFUSING: Final = Mount(name="refuses to rename directories", refuses_directory_rename=errno.EXDEV)
MOUNTS: Final = (LOCAL, FLAT, DRIVE, REFUSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A call that succeeded, with what a replay needs; paths are relative to the root."""

    op: str
    path: str
    target: str = ""
    offset: int = 0
    data: bytes = b""
