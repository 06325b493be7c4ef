"""Who owns a stage: named by the writer, so that the next one knows the dead from the living.

A pid says nothing alone: it is used again, and a container or another machine on the same mount has
its own. So an owner is the boot and pid namespace (one token), the pid, and the process's start.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

_NAME = re.compile(r"([0-9a-f]{8})-([0-9]{1,10})-([0-9]{1,20})-[0-9a-f]{8}")

Life = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True, slots=True)
class Owner:
    """A process: `machine` is a boot and pid namespace, `start` a time of its own clock."""

    machine: str
    pid: int
    start: int

    def name(self) -> str:
        """A name that no other call gives, to stand behind a prefix."""
        return f"{self.machine}-{self.pid}-{self.start}-{secrets.token_hex(4)}"

    @property
    def life(self) -> Life:
        """Whether the process runs; unknown when it is another machine's or another boot's."""
        if self.machine != _machine():
            return "unknown"
        return "alive" if _start_of(self.pid) == self.start else "dead"


def this_process() -> Owner:
    """The owner that this process is."""
    pid = os.getpid()
    return Owner(_machine(), pid, _start_of(pid) or 0)


def parse_owner(text: str) -> Owner | None:
    """The owner whose name this is; None when it is nobody's."""
    match = _NAME.fullmatch(text)
    return Owner(match[1], int(match[2]), int(match[3])) if match else None


@lru_cache(maxsize=1)
def _machine() -> str:
    boot = _read("/proc/sys/kernel/random/boot_id")
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    if not boot:
        # Without a boot id two boots look alike: the start times below keep their processes apart.
        boot = getattr(os, "uname", lambda: ["", "unknown"])()[1]
    return hashlib.sha256(f"{boot} {namespace}".encode()).hexdigest()[:8]


def _start_of(pid: int) -> int | None:
    stat = _read(f"/proc/{pid}/stat")
    if stat:
        # The command's name may hold spaces and brackets: field 22 is counted from the last one.
        return int(stat.rpartition(")")[2].split()[19])
    if os.path.isdir("/proc/self"):
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace").strip()
    except OSError:
        return ""
