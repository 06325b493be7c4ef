"""Which mounts are mapped, and what tells them apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smartcash_format.disk.mounts import file_system, is_mapped

TABLE = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw
40 27 0:45 / /mnt/with\\040space rw,relatime shared:9 - nfs4 host:/export rw,vers=4.2
41 27 0:46 / /content/drive rw - fuse.drive drive rw
cut short
"""


@pytest.mark.parametrize(
    ("device", "kind"),
    [
        ((254, 0), "ext4"),
        ((0, 45), "nfs4"),
        ((0, 46), "fuse.drive"),
        ((0, 99), None),
    ],
)
def test_the_type_of_a_mount_is_found_by_its_device(
    tmp_path: Path, device: tuple[int, int], kind: str | None
) -> None:
    (tmp_path / "mountinfo").write_text(TABLE)
    assert file_system(os.makedev(*device), tmp_path / "mountinfo") == kind


def test_a_system_that_does_not_tell_is_not_asked_twice(tmp_path: Path) -> None:
    assert file_system(0, tmp_path / "none") is None
    assert is_mapped(None)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs"])
def test_what_is_local_is_mapped(kind: str) -> None:
    assert is_mapped(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "9p",
        "fuse",
        "fuse.sshfs",
        "fuseblk",
        "ceph",
        "lustre",
        "vfat",
    ],
)
def test_what_another_machine_may_cut_or_we_do_is_read(kind: str) -> None:
    assert not is_mapped(kind)


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="nothing tells here")
def test_this_system_tells(tmp_path: Path) -> None:
    assert file_system(os.stat("/proc").st_dev) == "proc"
