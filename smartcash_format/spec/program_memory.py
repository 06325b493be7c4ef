"""What the values of a pickle program are counted as in memory: bytes, one count for a program.

As CPython takes them on 64 bits, rounded up; what takes several forms is counted as the largest
(FORMAT.md, Bounds). An object is counted when it is made, the places that refer to it each for
itself: in the memo, in a container, and on the stack while it stands there.
"""

from __future__ import annotations

from typing import Final

from smartcash_format.spec import limits
from smartcash_format.spec.refusal import Refused

# A place in a list, with the eighth that lists grow ahead.
PLACE: Final = 10
# An empty dict, list or tuple, with the first places of a list.
CONTAINER: Final = 96
# A float, or an integer of up to seven bytes.
NUMBER: Final = 32
# A text without its characters.
TEXT: Final = 72
# One of the allow-list, each time that it is named; a program names each once.
NAME: Final = 96
# A container that may stand in one more place: a set of these, and what is known of their weight.
SHARED: Final = 256
# Of what kind a dict or a tensor is.
KIND: Final = 288
# A storage that is named, and what is said of it.
STORAGE: Final = 192
# A tensor made of its arguments; one that is read in one go, with its key and its storage; each
# length and step of a shape that others do not have.
TENSOR: Final = 128
TENSOR_AT_ONCE: Final = 240
LENGTH: Final = 40
# A dict of up to five tensors, by text, that is read in one go.
NAMED: Final = 192
# The entries of a dict beside it: of up to five, of up to ten, and each of more.
_UP_TO_FIVE: Final = 144
_UP_TO_TEN: Final = 272
_ENTRY: Final = 64
# For each eight bytes of an integer.
_EIGHT_BYTES: Final = 16
# For each byte of a text: decoding copies it. In one that is not ASCII each may become a character
# of four bytes.
_BYTE: Final = 2
WIDER: Final = 4
# Who saves reads it too.
_FIX: Final = "keep many numbers as a tensor, and long texts out of the state"


class Memory:
    """The count of one program."""

    __slots__ = ("taken",)

    def __init__(self) -> None:
        self.taken = 0

    def take(self, size_bytes: int, *, meanwhile: int = 0) -> None:
        """Counts what stays, and sees that it fits beside what is there meanwhile."""
        self.taken += size_bytes
        if self.taken + meanwhile > limits.PROGRAM_MEMORY:
            message = f"makes values of more than {limits.PROGRAM_MEMORY:,} bytes of memory"
            raise Refused("pickle-bounds", message, fix=_FIX)


def of_long(size_bytes: int) -> int:
    """An integer that is written in so many bytes."""
    return NUMBER + _EIGHT_BYTES * (size_bytes // 8)


def of_text(size_bytes: int) -> int:
    """A text that is written in so many bytes; WIDER more for each if it is not ASCII."""
    return TEXT + _BYTE * size_bytes


def of_entries(entries: int) -> int:
    """The entries of a dict, besides itself."""
    if entries > 10:
        return _ENTRY * entries
    if entries > 5:
        return _UP_TO_TEN
    return _UP_TO_FIVE if entries else 0
