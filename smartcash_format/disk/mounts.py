"""Which file system a file lies on, where Linux tells, and whether its files are mapped.

Elsewhere (macOS, Windows) nothing tells: files are mapped there, and read where that fails.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# Where a page of a mapping may be missing when it is touched, which ends the process: a server that
# does not answer, a file that another machine has cut; or where mapping is slow, or refused.
_OVER_A_NETWORK: Final = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
        "ocfs2", "orangefs", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "wekafs",
    }
)  # fmt: skip
_FUSE: Final = ("fuse", "fuseblk")
# They have no hard links, so what is removed there is cut before it goes (disk/leftovers.py).
_WITHOUT_LINKS: Final = frozenset({"exfat", "msdos", "vfat"})
_TABLE: Final = Path("/proc/self/mountinfo")


def file_system(device: int, table: Path = _TABLE) -> str | None:
    """The type of the file system with this `st_dev`; None where the system does not tell."""
    try:
        lines = table.read_bytes().splitlines()
    except OSError:
        return None
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    for line in reversed(lines):
        fields = line.split()
        if b"-" in fields[6:] and fields[2] == wanted:
            return fields[fields.index(b"-", 6) + 1].decode("ascii", "replace")
    return None


def is_mapped(kind: str | None) -> bool:
    """Whether files on a file system of this type are mapped, and not read."""
    if kind is None:
        return True
    family = kind.partition(".")[0]
    return family not in _FUSE and kind not in _OVER_A_NETWORK | _WITHOUT_LINKS
