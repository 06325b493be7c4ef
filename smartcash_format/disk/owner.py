"""Who owns a stage: named by the writer, so that the next one knows the dead from the living.

A pid says nothing alone: it is used again, and a container or another machine on the same mount has
its own. So an owner is the boot and pid namespace (one token), the pid, and the process's start.
"dead" is said only where it is certain: what a dead owner left is deleted.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import uuid
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
        if self.machine != _machine(os.getpid()):
            return "unknown"
        return _life(self.pid, self.start)


def this_process() -> Owner:
    """The owner that this process is."""
    pid = os.getpid()
    process = _process(pid)
    return Owner(_machine(pid), pid, process.start if process else 0)


def parse_owner(text: str) -> Owner | None:
    """The owner whose name this is; None when it is nobody's."""
    match = _NAME.fullmatch(text)
    return Owner(match[1], int(match[2]), int(match[3])) if match else None


@lru_cache(maxsize=1)
def _machine(_pid: int) -> str:
    # Asked again for each pid: a fork may stand in another pid namespace than its parent.
    boot = _read("/proc/sys/kernel/random/boot_id")
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    # The host's name keeps clones of one running virtual machine apart, which share a boot id;
    # where there is no boot id at all, the network card's address does.
    host = getattr(os, "uname", lambda: ["", "unknown"])()[1]
    card = "" if boot else str(uuid.getnode())
    return hashlib.sha256(f"{boot} {namespace} {host} {card}".encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class _Process:
    start: int
    ended: bool


def _life(pid: int, start: int) -> Life:
    process = _process(pid)
    if process is not None:
        return "alive" if process.start == start and not process.ended else "dead"
    if not _exists(pid):
        return "dead"
    # It runs and does not show when it began: another user's under hidepid, or no /proc. Without
    # /proc no start was ever known (0), and a pid is all there is.
    return "unknown" if os.path.isdir("/proc/self") else "alive"


def _process(pid: int) -> _Process | None:
    """A process as /proc shows it; None where it shows none."""
    # The command's name may hold spaces and brackets: fields are counted from the last one.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20:
        return None
    state, threads, start = fields[0], int(fields[17]), int(fields[19])
    # A zombie has ended, unless only its first thread has.
    return _Process(start, ended=state in "ZX" and threads <= 1)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False  # larger than any pid
    except PermissionError:
        pass
    return True


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace").strip()
    except OSError:
        return ""
