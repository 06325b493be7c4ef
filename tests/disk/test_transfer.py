from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import transfer as module
from smartcash_format.disk.placing import write_at
from smartcash_format.disk.publish import Stage
from smartcash_format.disk.read import read_meta
from smartcash_format.disk.transfer import Skipped, Transferred, transfer
from smartcash_format.errors import (
    CheckpointExistsError,
    CheckpointWriteError,
    InsufficientSpaceError,
)
from smartcash_format.spec import layout
from smartcash_format.spec.meta import Meta
from smartcash_format.testing.sample import write_sample


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    return [write_sample(tmp_path / "runs", epoch=epoch) for epoch in (1, 2, 3)]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "drive" / "checkpoints"


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_copies_are_equal_byte_for_byte_and_share_nothing(
    sources: list[Path], target: Path
) -> None:
    done = transfer(sources, target)
    assert done.copied == tuple(target / source.name for source in sources)
    assert done.skipped == ()
    assert done.size_bytes == sum(
        len(data) for source in sources for data in contents(source).values()
    )
    for source, copy in zip(sources, done.copied, strict=True):
        assert contents(copy) == contents(source)
        assert all(path.stat().st_nlink == 1 for path in copy.iterdir())
    assert sorted(os.listdir(target)) == sorted(source.name for source in sources)


def test_hard_linked_sources_become_full_files(
    sources: list[Path], target: Path, tmp_path: Path
) -> None:
    (tmp_path / "linked").mkdir()
    for path in sources[0].iterdir():
        os.link(path, tmp_path / "linked" / path.name)
    copied = transfer(sources[:1], target).copied[0]
    assert {path.stat().st_nlink for path in sources[0].iterdir()} == {2}
    assert {path.stat().st_nlink for path in copied.iterdir()} == {1}


def test_what_is_there_and_identical_is_skipped(sources: list[Path], target: Path) -> None:
    transfer(sources[:1], target)
    before = (target / sources[0].name / layout.META).stat()
    done = transfer(sources, target)
    assert done.copied == tuple(target / source.name for source in sources[1:])
    assert [(skip.source, skip.kind) for skip in done.skipped] == [(sources[0], "identical")]
    assert (target / sources[0].name / layout.META).stat().st_ino == before.st_ino


def test_a_copy_into_its_own_root_does_nothing(sources: list[Path]) -> None:
    root = sources[0].parent
    done = transfer(sources, root)
    assert (done.copied, len(done.skipped)) == ((), 3)
    assert len(os.listdir(root)) == 3


def test_a_different_checkpoint_of_the_name_is_left_and_the_copy_goes_beside_it(
    sources: list[Path], target: Path, tmp_path: Path
) -> None:
    source = sources[0]
    other = write_sample(tmp_path / "other", epoch=9)
    target.mkdir(parents=True)
    os.rename(other, target / source.name)
    before = contents(target / source.name)
    digits = read_meta(source).meta_digest.partition(":")[2][:8]

    done = transfer([source], target)
    assert done.copied == (target / f"{source.name}-{digits}",)
    assert contents(done.copied[0]) == contents(source)
    assert contents(target / source.name) == before
    assert transfer([source], target).skipped[0].kind == "identical"


@pytest.mark.parametrize("damage", ["missing", "short", "meta", "empty", "file"])
def test_a_half_of_a_copy_is_no_copy(sources: list[Path], target: Path, damage: str) -> None:
    source = sources[0]
    there = transfer([source], target).copied[0]
    match damage:
        case "missing":
            (there / "model.safetensors").unlink()
        case "short":
            os.truncate(there / "model.safetensors", 10)
        case "meta":
            (there / layout.META).unlink()
        case "empty":
            shutil.rmtree(there)
            there.mkdir()
        case _:
            shutil.rmtree(there)
            there.write_text("something")
    copied = transfer([source], target).copied
    assert copied == (target / copied[0].name,)
    assert copied[0] != there
    assert contents(copied[0]) == contents(source)


def test_with_both_names_taken_nothing_is_overwritten_and_the_others_are_copied(
    sources: list[Path], target: Path
) -> None:
    source = sources[0]
    first = transfer([source], target).copied[0]
    (first / layout.META).unlink()
    second = transfer([source], target).copied[0]
    (second / layout.META).unlink()
    with pytest.raises(CheckpointExistsError) as caught:
        transfer(sources, target)
    assert caught.value.path == second
    others = [other.name for other in sources[1:]]
    assert sorted(os.listdir(target)) == sorted([first.name, second.name, *others])
    assert not (second / layout.META).exists()


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "tensors.json"])
def test_a_source_that_has_rotted_is_not_copied_and_the_others_are(
    sources: list[Path], target: Path, name: str
) -> None:
    flip(sources[1] / name)
    done = transfer(sources, target)
    assert done.copied == (target / sources[0].name, target / sources[2].name)
    (skip,) = done.skipped
    assert (skip.source, skip.kind) == (sources[1], "broken")
    assert skip.reason.startswith(f"{name} does not have the bytes it was saved with")
    assert len(os.listdir(target)) == 2


@pytest.mark.parametrize("damage", ["gone", "meta", "file", "link", "foreign"])
def test_a_source_that_is_not_whole_is_skipped_with_its_reason(
    sources: list[Path], target: Path, damage: str
) -> None:
    source = sources[0]
    match damage:
        case "gone":
            shutil.rmtree(source)
        case "meta":
            flip(source / layout.META)
        case "file":
            (source / "optimizer.pt").unlink()
        case "link":
            os.rename(source / "optimizer.pt", source.parent / "elsewhere")
            (source / "optimizer.pt").symlink_to(source.parent / "elsewhere")
        case _:
            (source / layout.META).write_text("{}")
    done = transfer(sources, target)
    assert [skip.kind for skip in done.skipped] == ["broken"]
    assert done.skipped[0].reason
    assert len(done.copied) == 2
    assert sorted(os.listdir(target)) == sorted(copy.name for copy in done.copied)


@pytest.mark.attack("move", "a file longer than it is listed", "not copied at all")
def test_a_file_longer_than_it_is_listed_is_not_copied_at_all(
    sources: list[Path], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(sources[0] / "optimizer.pt", 64 << 20)
    done = transfer(sources[:1], target)
    assert "optimizer.pt" in done.skipped[0].reason
    assert "67,108,864 bytes" in done.skipped[0].reason
    assert not target.exists()


@pytest.mark.attack("move", "a file that grows while it is copied", "not followed")
def test_a_file_that_grows_while_it_is_copied_is_not_followed(
    sources: list[Path], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def growing(descriptor: int, offset: int, chunks: Any) -> Any:
        os.truncate(sources[0] / "optimizer.pt", 64 << 20)
        written.append(sum(map(len, chunks)))
        return write_at(descriptor, offset, chunks)

    monkeypatch.setattr(module, "write_at", growing)
    done = transfer(sources[:1], target)
    assert done.skipped[0].reason == "optimizer.pt grew while it was copied"
    assert sum(written) < module.CHUNK_BYTES
    assert os.listdir(target) == []


def test_progress_adds_up_to_all_bytes(sources: list[Path], target: Path) -> None:
    seen: list[tuple[int, int]] = []
    done = transfer(sources, target, progress=lambda *args: seen.append(args))
    assert seen == sorted(seen)
    assert seen[-1] == (done.size_bytes, done.size_bytes)


def test_progress_ends_also_when_a_source_turns_out_broken(
    sources: list[Path], target: Path
) -> None:
    flip(sources[2] / "tensors.json")
    seen: list[tuple[int, int]] = []
    transfer(sources, target, progress=lambda *args: seen.append(args))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


def test_a_target_that_does_not_fit_all_is_refused_before_the_first_byte(
    sources: list[Path], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartcash_format.disk.publish.free_bytes", lambda path: 5000)
    with pytest.raises(InsufficientSpaceError) as caught:
        transfer(sources, target)
    assert caught.value.free_bytes == 5000
    assert not target.exists()


def test_storage_that_reads_back_other_bytes_is_found_and_nothing_is_left(
    sources: list[Path], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def rot(descriptor: int, data: Any, offset: int) -> int:
        return real(descriptor, bytes([data[0] ^ 1]) + bytes(data[1:]), offset)

    monkeypatch.setattr(os, "pwrite", rot)
    with pytest.raises(CheckpointWriteError, match="reads back other bytes") as caught:
        transfer(sources, target)
    assert caught.value.errno == errno.EIO
    assert os.listdir(target) == []


def test_a_failing_target_is_raised_with_its_errno_and_what_was_copied_stays(
    sources: list[Path], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync
    calls: list[int] = []

    def fail_late(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_late)
        with pytest.raises(CheckpointWriteError, match="was not copied") as caught:
            transfer(sources, target)
    assert caught.value.errno == errno.ENOSPC
    copied = [name for name in os.listdir(target) if not layout.is_hidden(name)]
    assert copied == [sources[0].name]
    assert len(transfer(sources, target).copied) == 2


@pytest.mark.parametrize("call", ["chmod", "utime", "link", "posix_fadvise"])
def test_a_mount_that_only_stores_bytes_is_copied_to(
    sources: list[Path], target: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, call, refuse)
    assert len(transfer(sources, target).copied) == 3


def test_copies_keep_the_times_of_their_files(sources: list[Path], target: Path) -> None:
    os.utime(sources[0] / "model.safetensors", (1e9, 1e9))
    copied = transfer(sources[:1], target).copied[0]
    assert (copied / "model.safetensors").stat().st_mtime == 1e9


def test_of_two_copies_of_one_checkpoint_at_once_one_is_made(
    sources: list[Path], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = threading.Barrier(4)
    real = module._Target.place
    first = threading.local()

    def place(self: module._Target, source: Path, meta: Meta) -> Path:
        found = real(self, source, meta)
        first.calls = getattr(first, "calls", 0) + 1
        if first.calls == 2:
            ready.wait()  # all of them have found the name free
        return found

    monkeypatch.setattr(module._Target, "place", place)
    results: list[Transferred] = []
    threads = [
        threading.Thread(target=lambda: results.append(transfer(sources[:1], target)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(done.copied) for done in results) == 1
    assert [skip.kind for done in results for skip in done.skipped] == ["identical"] * 3
    assert os.listdir(target) == [sources[0].name]


def test_a_source_is_named_by_its_directory_however_it_is_spelled(
    sources: list[Path], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sources[0])
    assert transfer([Path(".")], target).copied == (target / sources[0].name,)


def test_nothing_to_copy_makes_no_root(target: Path) -> None:
    assert transfer([], target) == Transferred(copied=(), skipped=(), size_bytes=0)
    assert not target.exists()


def test_a_skip_says_where_the_copy_is(sources: list[Path], target: Path) -> None:
    transfer(sources[:1], target)
    there = target / sources[0].name
    assert transfer(sources[:1], target).skipped == (
        Skipped(
            source=sources[0], kind="identical", reason=f"is already there as {there}", place=there
        ),
    )


def test_what_has_rotted_there_in_a_small_file_is_not_called_identical(
    sources: list[Path], target: Path
) -> None:
    transfer(sources[:1], target)
    rotten = target / sources[0].name
    flip(rotten / "model.safetensors")
    done = transfer(sources[:1], target)
    (copy,) = done.copied
    assert copy.name.startswith(f"{rotten.name}-")
    assert contents(copy) == contents(sources[0])
    assert transfer(sources[:1], target).skipped[0].reason == f"is already there as {copy}"


def test_large_files_that_are_there_are_read_for_who_asks(
    sources: list[Path], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL_BYTES", 10)
    transfer(sources[:1], target)
    flip(target / sources[0].name / "model.safetensors")
    assert transfer(sources[:1], target).copied == ()
    assert len(transfer(sources[:1], target, verify=True).copied) == 1
    assert transfer(sources[:1], target, verify=True).copied == ()


def test_what_cannot_be_read_there_is_not_called_identical(
    sources: list[Path], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer(sources[:1], target)

    def fail(*args: object) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_holds", fail)
        done = transfer(sources[:1], target)
    assert (len(done.copied), done.skipped) == (1, ())


def test_a_mount_that_goes_on_calling_a_taken_name_free_ends_the_copy(
    sources: list[Path], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    honest = module._copy_file

    def count(*args: Any) -> None:
        nonlocal written
        written += 1
        honest(*args)

    def taken(staged: Stage) -> Path:
        raise CheckpointExistsError(f"{staged.final} exists already", path=staged.final)

    monkeypatch.setattr(module, "_copy_file", count)
    monkeypatch.setattr(Stage, "publish", taken)
    with pytest.raises(CheckpointExistsError):
        transfer(sources[:1], target)
    assert written == 2 * len(read_meta(sources[0]).files)
    assert os.listdir(target) == []
