"""A Drive that is not mounted is told from one that is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smartcash_format.disk.drive import drive_notice, drive_problem

MOUNTS = """\
overlay / overlay rw,relatime 0 0
tmpfs /dev/shm tmpfs rw 0 0
{} fuse.drive rw,nosuid,nodev,relatime,user_id=0 0 0
"""


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return Path(os.path.realpath(tmp_path)) / "content" / "drive"


def test_an_unmounted_drive_is_a_problem_that_shows_how_to_mount_it(drive: Path) -> None:
    problem = drive_problem(drive / "MyDrive" / "x", mounts="", mount_point=drive)
    assert problem is not None
    assert "from google.colab import drive\n" in problem
    assert f'drive.mount("{drive}")' in problem


def test_a_mounted_drive_is_no_problem(drive: Path) -> None:
    mounts = MOUNTS.format(f"drive {drive}")
    assert drive_problem(drive / "MyDrive" / "x", mounts=mounts, mount_point=drive) is None


def test_a_drive_that_is_mounted_below_is_no_problem_there_and_nowhere_else(drive: Path) -> None:
    mounts = MOUNTS.format(f"rclone {drive / 'MyDrive'}")
    assert drive_problem(drive / "MyDrive" / "x", mounts=mounts, mount_point=drive) is None
    for other in (drive, drive / "x", drive / "MyDriveToo"):
        assert drive_problem(other, mounts=mounts, mount_point=drive) is not None


def test_another_directory_is_no_problem_without_any_drive(drive: Path, tmp_path: Path) -> None:
    assert drive_problem(tmp_path / "backup", mounts="", mount_point=drive) is None
    assert drive_problem(Path(f"{drive}-not"), mounts="", mount_point=drive) is None


def test_a_way_around_to_an_unmounted_drive_is_a_problem(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive.mkdir(parents=True)
    (tmp_path / "gd").symlink_to(drive)
    monkeypatch.chdir(drive)
    for path in (tmp_path / "gd" / "x", Path("x"), drive / ".." / "drive" / "x"):
        assert drive_problem(path, mounts="", mount_point=drive) is not None


def test_a_mount_point_with_a_space_is_found(tmp_path: Path) -> None:
    drive = Path(os.path.realpath(tmp_path)) / "my drive"
    mounts = MOUNTS.format(f"drive {str(drive).replace(' ', chr(92) + '040')}")
    assert drive_problem(drive / "x", mounts=mounts, mount_point=drive) is None


def test_a_copy_to_drive_comes_with_a_word_about_the_upload(drive: Path, tmp_path: Path) -> None:
    notice = drive_notice(drive / "MyDrive", mount_point=drive)
    assert notice is not None
    assert "flush_and_unmount" in notice
    assert drive_notice(tmp_path / "backup", mount_point=drive) is None


def test_this_machine_has_no_drive_mounted() -> None:
    assert drive_problem(Path("/content/drive/MyDrive/x")) is not None
