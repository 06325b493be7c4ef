from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import durable
from smartcash_format.disk.publish import Stage, stage
from smartcash_format.disk.sweeping import clear
from smartcash_format.errors import (
    CheckpointExistsError,
    CheckpointNotFoundError,
    CheckpointWriteError,
)
from smartcash_format.spec import layout
from tests.disk.staging import REFUSALS, WHOLE, contents, failing, fill, is_directory, save


def test_a_published_checkpoint_has_all_files_and_leaves_no_stage(tmp_path: Path) -> None:
    final = tmp_path / "runs" / "weights" / "epoch-0001-aa"
    assert save(final) == final
    assert contents(final) == WHOLE
    assert os.listdir(final.parent) == [final.name]


def test_nothing_is_visible_before_publish_and_nothing_is_left_without_it(tmp_path: Path) -> None:
    with stage(tmp_path / "epoch-0001-aa") as staged:
        fill(staged)
        assert [name for name in os.listdir(tmp_path) if not layout.is_hidden(name)] == []
    assert os.listdir(tmp_path) == []


def test_an_interrupt_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(staged: Stage) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "epoch-0001-aa", interrupt)
    assert os.listdir(tmp_path) == []


def test_files_and_directory_have_the_modes_that_open_and_mkdir_give(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "file").write_text("")
    final = save(tmp_path / "epoch-0001-aa")
    assert final.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (final / layout.META).stat().st_mode == (tmp_path / "file").stat().st_mode


@pytest.mark.parametrize("kind", ["directory", "full", "file", "link", "dangling"])
def test_a_name_that_is_taken_is_never_touched(tmp_path: Path, kind: str) -> None:
    final = tmp_path / "root" / "epoch-0001-aa"
    final.parent.mkdir()
    (tmp_path / "elsewhere").mkdir()
    match kind:
        case "directory":
            final.mkdir()
        case "full":
            save(final)
        case "file":
            final.write_text("mine")
        case "link":
            final.symlink_to(tmp_path / "elsewhere")
        case _:
            final.symlink_to(tmp_path / "nowhere")
    before = final.lstat()
    with pytest.raises(CheckpointExistsError) as caught:
        save(final)
    assert caught.value.path == final
    assert final.lstat() == before
    assert os.listdir(final.parent) == [final.name]


@pytest.mark.parametrize("kind", ["full", "file", "link"])
def test_a_name_that_is_taken_while_writing_is_never_touched(tmp_path: Path, kind: str) -> None:
    final = tmp_path / "epoch-0001-aa"

    def take(staged: Stage) -> None:
        match kind:
            case "full":
                final.mkdir()
                (final / "theirs").write_text("theirs")
            case "file":
                final.write_text("theirs")
            case _:
                final.symlink_to(tmp_path / "nowhere")

    with pytest.raises(CheckpointExistsError):
        save(final, take)
    assert os.listdir(tmp_path) == [final.name]
    if kind == "full":
        assert contents(final) == {"theirs": b"theirs"}


def test_of_two_writers_of_one_name_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    final = tmp_path / "epoch-0001-aa"
    ready = threading.Barrier(8)
    outcomes: list[str] = []

    def write(who: int) -> None:
        try:
            with stage(final) as staged:
                descriptor = staged.create(layout.META)
                os.write(descriptor, str(who).encode())
                os.close(descriptor)
                ready.wait()
                staged.publish()
            outcomes.append(str(who))
        except CheckpointExistsError:
            outcomes.append("exists")

    threads = [threading.Thread(target=write, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("exists") == 7
    assert (final / layout.META).read_text() in outcomes
    assert os.listdir(tmp_path) == [final.name]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_where_a_directory_cannot_be_renamed_its_files_are_moved_meta_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    moved: list[str] = []

    def note(source: Path, target: Path) -> bool:
        moved.append(Path(source).name)
        return is_directory(source)

    failing(monkeypatch, "rename", getattr(errno, refusal), note)
    final = save(tmp_path / "epoch-0001-aa")
    assert contents(final) == WHOLE
    assert os.listdir(tmp_path) == [final.name]
    assert moved[1:] == ["model.safetensors", layout.META]


def test_where_nothing_can_be_renamed_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "rename", errno.EXDEV)
    with pytest.raises(CheckpointWriteError) as caught:
        save(tmp_path / "epoch-0001-aa")
    assert caught.value.errno == errno.EXDEV
    assert os.listdir(tmp_path) == []


def test_a_name_taken_before_the_files_are_moved_is_never_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "epoch-0001-aa"

    def take(*paths: Path) -> bool:
        final.mkdir()
        return True

    failing(monkeypatch, "rename", errno.EXDEV, take)
    with pytest.raises(CheckpointExistsError):
        save(final)
    assert os.listdir(tmp_path) == [final.name]
    assert contents(final) == {}


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINTR, errno.EIO, errno.ETIMEDOUT])
def test_a_rename_that_succeeded_and_says_it_failed_is_a_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.rename

    def lose_the_answer(source: Path, target: Path) -> None:
        real(source, target)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "rename", lose_the_answer)
    final = save(tmp_path / "epoch-0001-aa")
    assert contents(final) == WHOLE


def test_a_stage_that_vanished_is_no_success_because_another_has_the_name(tmp_path: Path) -> None:
    final = tmp_path / "epoch-0001-aa"

    def swap(staged: Stage) -> None:
        os.rename(staged.path, tmp_path / "taken away")
        final.mkdir()

    with pytest.raises(CheckpointWriteError) as caught:
        save(final, swap)
    assert caught.value.errno == errno.ENOENT


def test_a_root_that_vanishes_is_reported_as_a_failed_write(tmp_path: Path) -> None:
    final = tmp_path / "root" / "epoch-0001-aa"
    with pytest.raises(CheckpointWriteError) as caught:
        save(final, lambda staged: os.rename(tmp_path / "root", tmp_path / "gone"))
    assert caught.value.errno == errno.ENOENT
    assert not (tmp_path / "root").exists()


def test_a_symlinked_root_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    save(tmp_path / "link" / "epoch-0001-aa")
    assert contents(tmp_path / "real" / "epoch-0001-aa") == WHOLE
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("root", ["file", "file/below", "dangling", "loop"])
def test_a_root_that_is_no_directory_is_reported_as_a_failed_write(
    tmp_path: Path, root: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(CheckpointWriteError) as caught:
        save(tmp_path / root / "epoch-0001-aa")
    assert caught.value.errno in (errno.ENOTDIR, errno.ELOOP)


@pytest.mark.parametrize("name", ["new\nline", "über-épôque-🚀", "-rf", "a b", "x" * 255])
def test_any_name_that_the_file_system_takes_is_saved_under(tmp_path: Path, name: str) -> None:
    final = save(tmp_path / name / name)
    assert contents(final) == WHOLE


def test_a_name_that_is_too_long_is_reported_as_a_failed_write(tmp_path: Path) -> None:
    with pytest.raises(CheckpointWriteError) as caught:
        save(tmp_path / ("x" * 300))
    assert caught.value.errno == errno.ENAMETOOLONG
    assert os.listdir(tmp_path) == []


def test_an_error_of_our_own_tree_passes_through_a_stage(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError), stage(tmp_path / "epoch-0001-aa"):
        raise CheckpointNotFoundError("the base is gone")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_failed_sync_of_the_stage_gives_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing(monkeypatch, "fsync", number)
    with pytest.raises(CheckpointWriteError) as caught:
        save(tmp_path / "epoch-0001-aa")
    assert caught.value.errno == number
    assert os.listdir(tmp_path) == []


def test_a_failed_sync_after_the_rename_says_that_the_checkpoint_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "epoch-0001-aa"
    failing(monkeypatch, "fsync", errno.EIO, lambda descriptor: final.exists())
    with pytest.raises(CheckpointWriteError, match="is complete, but whether") as caught:
        save(final)
    assert caught.value.errno == errno.EIO
    assert contents(final) == WHOLE


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES])
def test_a_mount_without_sync_of_directories_is_saved_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing(monkeypatch, "fsync", number)  # the test writes its files without
    assert contents(save(tmp_path / "epoch-0001-aa")) == WHOLE


def test_a_parent_that_may_not_be_listed_is_saved_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if path == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    failing(monkeypatch, "scandir", errno.EACCES, lambda path: path == tmp_path)
    assert contents(save(tmp_path / "epoch-0001-aa")) == WHOLE


def test_directories_made_for_a_root_are_synced_in_their_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync_directory", synced.append)
    durable.make_root(tmp_path / "a" / "b")
    # Nothing was in it: whoever made it may not have come so far.
    assert synced == [tmp_path.parent, tmp_path, tmp_path / "a"]
    synced.clear()
    durable.make_root(tmp_path / "c")
    assert synced == [tmp_path]


def test_a_writer_whose_stage_was_cleared_is_refused_and_one_that_was_faster_has_won(
    tmp_path: Path,
) -> None:
    with pytest.raises(CheckpointWriteError, match="was not saved"):
        save(tmp_path / "epoch-0001-aa", lambda staged: clear(staged.path))
    assert os.listdir(tmp_path) == []
    stages: list[Path] = []
    final = save(tmp_path / "epoch-0002-bb", lambda staged: stages.append(staged.path))
    assert clear(stages[0]) == 0
    assert contents(final) == WHOLE


@pytest.mark.parametrize("moment", range(1, 8))
def test_a_writer_that_publishes_while_its_stage_is_cleared_has_all_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    final = tmp_path / "epoch-0001-aa"
    calls = 0
    with stage(final) as staged:
        fill(staged)

        def meanwhile(*args: object, **kwargs: object) -> bool:
            nonlocal calls
            calls += 1
            if calls == moment:
                with contextlib.suppress(FileNotFoundError):
                    staged.publish()
            return False

        with monkeypatch.context() as patch:
            for call in ("rename", "lstat", "open", "listdir", "stat", "unlink", "rmdir"):
                failing(patch, call, 0, meanwhile)
            clear(staged.path)
        assert calls >= moment
        assert staged.published is (moment == 1)
    assert (contents(final) if final.exists() else WHOLE) == WHOLE
