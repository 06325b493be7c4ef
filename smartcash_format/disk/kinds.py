"""What stands under a name, when it is no plain file."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from typing import Final

_KINDS: Final[Mapping[int, str]] = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotPlainFileError(OSError):
    """What stands under a listed name is no plain file."""


def kind_of(mode: int) -> str:
    """What a file of this mode is, for a sentence."""
    return _KINDS.get(stat.S_IFMT(mode), "a special file")
