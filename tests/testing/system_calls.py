"""What a process changes below a root, as the kernel sees it: by strace, where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import CHECKOUT

# The kernel's calls that change a tree, by what the layer calls them.
CALLS = {
    "create": ("open", "openat", "openat2", "creat"),
    "write": ("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "copy_file_range"),
    "truncate": ("truncate", "ftruncate", "fallocate"),
    "fsync": ("fsync", "fdatasync", "sync_file_range", "msync"),
    "rename": ("rename", "renameat", "renameat2"),
    "link": ("link", "linkat"),
    "symlink": ("symlink", "symlinkat"),
    "mkdir": ("mkdir", "mkdirat"),
    "rmdir": ("rmdir",),
    "unlink": ("unlink", "unlinkat"),
    "utime": ("utimensat", "utimes", "futimesat"),
    "chmod": ("chmod", "fchmod", "fchmodat", "fchmodat2"),
}
NAMED = {call: op for op, calls in CALLS.items() for call in calls}
_LINE = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\((?P<arguments>.*)$")
_OPEN = re.compile(r"^\d+<(?P<path>[^>]*)>")
_NAMES = re.compile(r'(?:(?:AT_FDCWD|\d+)<(?P<base>[^>]*)>, )?"(?P<name>[^"]*)"')


@dataclass(frozen=True, slots=True)
class Call:
    """The nth call of its name in a thread, and what it does to which path below the root."""

    name: str
    nth: int
    op: str
    path: str


def needs_strace(place: Path) -> None:
    """Skips the test where nothing can be traced."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    probe = ["strace", "-f", "-o", str(place / "probe"), "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("strace may trace nothing here")


def traced(
    program: str, root: Path, log: Path, *injections: str
) -> subprocess.CompletedProcess[str]:
    """A Python program that is given the root, every call of it that changes a tree logged."""
    options = [part for injection in injections for part in ("-e", f"inject={injection}")]
    # A name that this strace does not know is not asked for.
    known = ",".join(f"?{call}" for call in NAMED)
    command = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-y",
        "-s",
        "4096",
        "-o",
        str(log),
        "-e",
        f"trace={known}",
    ]
    return subprocess.run(
        [*command, *options, sys.executable, "-B", "-c", program, str(root)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )


def calls_below(root: Path, log: Path) -> list[Call]:
    """What a trace says was changed below a root, in order."""
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for line in log.read_text("utf-8", "replace").splitlines():
        if (match := _LINE.match(line)) is None or (op := NAMED.get(match["call"])) is None:
            continue
        counts[match["thread"], match["call"]] += 1
        if op == "create" and not re.search(r"O_CREAT|O_TRUNC", line):
            continue
        if op == "unlink" and "AT_REMOVEDIR" in line:
            op = "rmdir"
        path = os.path.relpath(_path(op, match["arguments"]), root)
        if not path.startswith(".."):
            nth = counts[match["thread"], match["call"]]
            found.append(Call(match["call"], nth, op, path))
    return found


def _path(op: str, arguments: str) -> str:
    """What is changed: the file that a descriptor is of, the new name of a link, the old else."""
    opened = _OPEN.match(arguments)
    if opened and op in ("write", "truncate", "fsync"):
        return opened["path"]
    names = [
        os.path.join(found["base"] or "/", found["name"]) for found in _NAMES.finditer(arguments)
    ]
    if not names:  # utimensat and fchmod of what is open
        return opened["path"] if opened else "/"
    return names[-1] if op in ("link", "symlink") else names[0]
