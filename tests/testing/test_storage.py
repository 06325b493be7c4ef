from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.testing import storage
from smartcash_format.testing.faults import Layer
from smartcash_format.testing.points import DRIVE, LOCAL, REFUSING, Fault, Mount, Point
from smartcash_format.testing.storage import StorageReport, storage_test


def on(directory: Path, mount: Mount) -> StorageReport:
    with Layer(directory, mount=mount):
        return storage_test(directory)


def missing(report: StorageReport) -> set[str]:
    return {finding.name for finding in report.findings if not finding.holds}


def test_a_local_disk_keeps_what_is_relied_on_and_nothing_is_left(tmp_path: Path) -> None:
    report = storage_test(tmp_path)
    assert report.usable
    assert missing(report) <= {"case"}
    assert report.file_system
    assert os.listdir(tmp_path) == []


def test_a_mount_like_drive_is_usable_and_what_it_lacks_is_said(tmp_path: Path) -> None:
    report = on(tmp_path, DRIVE)
    assert report.usable
    assert missing(report) >= {"rename at once", "directory fsync", "hard links", "modes"}
    text = "\n".join(report.lines())
    assert "after a power cut the newest checkpoint may be missing; older ones stand" in text
    assert "may leave half of it: no reader takes it for a checkpoint" in text


def test_a_mount_that_refuses_to_rename_directories_is_usable(tmp_path: Path) -> None:
    report = on(tmp_path, REFUSING)
    assert report.usable
    assert "rename at once" in missing(report)
    assert "no clobber" not in missing(report)


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_storage_that_cannot_store_is_not_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, call, refuse)
    report = storage_test(tmp_path)
    assert not report.usable
    assert "NO CHECKPOINTS CAN BE KEPT HERE" in report.lines()[0]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "call"), [("hard links", "link"), ("modes", "chmod"), ("free space", "statvfs")]
)
def test_what_fails_is_said_with_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: str
) -> None:
    def refuse(*args: object, **kwargs: Any) -> None:
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(os, call, refuse)
    (finding,) = (f for f in storage_test(tmp_path).findings if f.name == name)
    assert not finding.holds
    assert finding.means == storage._WITHOUT[name]


def test_everything_that_is_tried_says_what_follows_without_it() -> None:
    assert storage._LOOKS.keys() == storage._WITHOUT.keys()


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        storage_test(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        storage_test(str(tmp_path / "nothing"))  # a text is a path
    assert missing.value.filename == str(tmp_path / "nothing")  # and not a name in it


def test_storage_that_is_read_only_is_an_error_with_its_errno_and_nothing_is_left(
    tmp_path: Path,
) -> None:
    fault = Fault(effect="fail", errno=errno.EROFS, lasting=True)
    with (
        Layer(tmp_path, fault=fault, at=Point("mkdir", ".staging")),
        pytest.raises(OSError, match="Read-only file system") as caught,
    ):
        storage_test(tmp_path)
    assert caught.value.errno == errno.EROFS
    assert os.listdir(tmp_path) == []


def test_storage_that_turns_read_only_while_it_is_tried_is_not_usable(tmp_path: Path) -> None:
    fault = Fault(effect="fail", errno=errno.EROFS, lasting=True)
    with Layer(tmp_path, fault=fault, at=Point("mkdir", ".staging/checkpoints/root")):
        report = storage_test(tmp_path)
    assert not report.usable
    assert "Read-only file system" in "\n".join(report.lines())


@pytest.mark.parametrize("name", ["new\nline", "größe 🚀", "-rf", "link"])
def test_any_name_of_a_directory_and_a_link_to_one_will_do(tmp_path: Path, name: str) -> None:
    if name == "link":
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
    else:
        (tmp_path / name).mkdir()
    report = storage_test(tmp_path / name)
    assert report.usable
    assert report.file_system == storage_test(tmp_path).file_system
    assert os.listdir(tmp_path / name) == []


def test_the_layer_changes_nothing_on_a_local_mount(tmp_path: Path) -> None:
    assert missing(on(tmp_path, LOCAL)) <= {"case"}
