"""Opcodes as torch's writer writes them, tensors in the one usual form among them."""

from __future__ import annotations

import struct
from itertools import count

from tests.spec.torch_files import ORDERED_DICT, REBUILD, text

STORAGES = {"0": 4, "1": 4, "2": 4}
# Behind the numbers that one byte counts tensors are read in one go.
BEGIN = 256


def get(number: int) -> bytes:
    return b"h" + bytes([number]) if number < BEGIN else b"j" + struct.pack("<L", number)


class Writer:
    """Opcodes that number what they memoise in turn."""

    def __init__(self) -> None:
        self._numbers = count()

    def kept(self, opcodes: bytes) -> bytes:
        return opcodes + b"r" + struct.pack("<L", next(self._numbers))

    def beginning(self) -> bytes:
        """A tensor, the names "a" and "b", and what else one byte counts."""
        function = self.kept(REBUILD)
        storage = self.kept(text("storage")) + self.kept(b"ctorch\nFloatStorage\n")
        storage += text("2") + self.kept(text("cpu")) + b"K\1tQ"
        hooks = self.kept(ORDERED_DICT) + b")R"
        names = self.kept(text("a")) + self.kept(text("b"))
        others = b"".join(self.kept(b"N") for _ in range(7, BEGIN))
        return function + b"((" + storage + b"K\0))\x89" + hooks + b"tR" + names + others

    def tensor(
        self,
        key: str,
        sizes: bytes,
        *,
        noted: bool,
        offset: bytes = b"K\0",
        numel: bytes = b"K\1",
    ) -> bytes:
        """A tensor as writers write it; `noted` where its shape and stride get numbers."""
        named = b"(" + get(1) + get(2) + self.kept(text(key)) + get(3) + numel + b"t"
        asked = self.kept(named) + b"Q"
        window = offset + b"".join(self.kept(sizes) if noted else sizes for _ in "ab")
        hooks = self.kept(b"\x89" + get(4) + b")R")
        return get(0) + self.kept(self.kept(b"(" + asked + window + hooks + b"t") + b"R")
