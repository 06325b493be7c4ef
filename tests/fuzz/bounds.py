"""What one input may cost: SOON plain readings, and 64 MiB above what the process had."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Final

from tests.costs import SOON, plain_seconds

MEMORY_BYTES: Final = 64 << 20


class TooCostlyError(Exception):
    """An input took too long, or too much memory."""


def bounded(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The target, which raises TooCostlyError for an input that costs more than it may.

    Memory is what Linux says that the process holds; elsewhere only the time counts.
    """
    # Watched by a fuzzer both take twenty times as long.
    plain = plain_seconds()

    def call(data: bytes) -> None:
        before, peak = _resident_bytes(), _peak_bytes()
        began = time.process_time()
        target(data)
        taken = time.process_time() - began
        # A peak that another input left says nothing of this one.
        held = _peak_bytes() - before if _peak_bytes() > peak else 0
        if held > MEMORY_BYTES:
            raise TooCostlyError(f"{len(data):,} bytes take {held / 2**20:.0f} MiB")
        # Again: the machine may have been faster when it was measured first.
        if taken > SOON * plain and taken > SOON * (now := plain_seconds()):
            raise TooCostlyError(f"{len(data):,} bytes take {taken / now:.0f} plain readings")

    return call


def _resident_bytes() -> int:
    return _status_bytes("VmRSS:")


def _peak_bytes() -> int:
    # What getrusage says begins with the peak of the process that started this one.
    return _status_bytes("VmHWM:")


def _status_bytes(name: str) -> int:
    if not os.path.exists("/proc/self/status"):
        return sys.maxsize
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(name))
