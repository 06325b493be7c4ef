"""Google Drive as Colab mounts it: whether a directory lies on it, or where it would be mounted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

DRIVE: Final = Path("/content/drive")


def drive_problem(
    path: Path, *, mounts: str | None = None, mount_point: Path | None = None
) -> str | None:
    """Why nothing may be written to `path`, with the lines that help; None when it may.

    Under the mount point of Google Drive a directory is on Drive only while Drive is mounted there,
    or below it as other programs do: else it is on the machine's own disk and goes with it.
    `mounts` is the text of /proc/mounts.
    """
    mount_point = mount_point or DRIVE
    if not _is_under(path, mount_point):
        return None
    mounted = [point for point in _mount_points(mounts) if point.is_relative_to(mount_point)]
    if any(_is_under(path, point) for point in mounted):
        return None
    return (
        f"{path} is not on Google Drive: nothing is mounted at {mount_point}. In Colab run\n"
        "    from google.colab import drive\n"
        f'    drive.mount("{mount_point}")'
    )


def drive_notice(path: Path, *, mount_point: Path | None = None) -> str | None:
    """What a user has to know after a copy to Google Drive; None for any other place."""
    if not _is_under(path, mount_point or DRIVE):
        return None
    return (
        "the upload to Google Drive goes on in the background; drive.flush_and_unmount() waits "
        "for it"
    )


def _is_under(path: Path, directory: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(directory)


def _mount_points(mounts: str | None) -> set[Path]:
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text("utf-8", "surrogateescape")
        except OSError:
            return {DRIVE} if os.path.ismount(DRIVE) else set()
    fields = (line.split(" ") for line in mounts.splitlines())
    return {Path(part[1].replace("\\040", " ")) for part in fields if len(part) > 1}
