from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import durable, publish
from smartcash_format.disk.publish import (
    Stage,
    free_bytes,
    remove,
    require_space,
    stage,
)
from smartcash_format.disk.sweeping import clear
from smartcash_format.errors import (
    CheckpointExistsError,
    CheckpointNotFoundError,
    CheckpointWriteError,
    InsufficientSpaceError,
)
from smartcash_format.spec import layout

REFUSALS = ["EXDEV", "ENOTSUP", "EPERM", "ENOSYS", "EMFILE"]


def fill(staged: Stage) -> None:
    for name in ("model.safetensors", layout.META):
        descriptor = staged.create(name)
        os.write(descriptor, name.encode())
        os.close(descriptor)


def save(final: Path, meanwhile: Callable[[Stage], object] = lambda staged: None) -> Path:
    """Saves two files; `meanwhile` is what happens between writing and publishing."""
    with stage(final) as staged:
        fill(staged)
        meanwhile(staged)
        return staged.publish()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


WHOLE = {name: name.encode() for name in ("model.safetensors", layout.META)}


def failing(
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    when: Callable[..., bool] = lambda *args, **kwargs: True,
) -> None:
    """Makes os.<call> fail with an errno whenever `when` says so."""
    real = getattr(os, call)

    def fail(*args: Any, **kwargs: Any) -> Any:
        if when(*args, **kwargs):
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, fail)


def is_directory(path: object, *args: object, **kwargs: object) -> bool:
    return os.path.isdir(str(path))


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


def test_a_removed_checkpoint_is_gone_and_its_bytes_are_counted(tmp_path: Path) -> None:
    final = save(tmp_path / "epoch-0001-aa")
    assert remove(final) == sum(map(len, WHOLE.values()))
    assert os.listdir(tmp_path) == []


SIGNATURE = "epoch-0001-aa.sig"


def test_the_signature_beside_a_checkpoint_goes_with_it_and_with_it_alone(tmp_path: Path) -> None:
    first, second = save(tmp_path / "epoch-0001-aa"), save(tmp_path / "epoch-0001-aab")
    for path in (first, second):
        path.with_name(f"{path.name}.sig").write_bytes(b"signed")
    remove(first)
    assert sorted(os.listdir(tmp_path)) == ["epoch-0001-aab", "epoch-0001-aab.sig"]
    # What bears such a name and is no file is no signature.
    (tmp_path / SIGNATURE).mkdir()
    remove(save(first))
    assert (tmp_path / SIGNATURE).is_dir()


def test_a_signature_goes_after_its_checkpoint_and_by_way_of_the_trash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = save(tmp_path / "epoch-0001-aa")
    (tmp_path / SIGNATURE).write_bytes(b"signed")
    seen = []
    usual = os.rename

    def rename(source: Path, target: Path) -> None:
        seen.append((source.name, target.name.startswith(layout.TRASH_PREFIX), final.exists()))
        usual(source, target)

    monkeypatch.setattr(os, "rename", rename)
    remove(final)
    assert seen == [(final.name, True, True), (SIGNATURE, True, False)]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("refusal", REFUSALS)
def test_where_a_directory_cannot_be_renamed_its_signature_goes_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    final = save(tmp_path / "epoch-0001-aa")
    (tmp_path / SIGNATURE).write_bytes(b"signed")
    failing(monkeypatch, "rename", getattr(errno, refusal), lambda path, *_: Path(path) == final)
    remove(final)
    assert os.listdir(tmp_path) == []


def test_what_stays_keeps_its_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final = save(tmp_path / "epoch-0001-aa")
    (tmp_path / SIGNATURE).write_bytes(b"signed")
    with pytest.raises(CheckpointWriteError):
        remove(final, unless=lambda: True)
    assert contents(final) == WHOLE
    assert (tmp_path / SIGNATURE).read_bytes() == b"signed"
    # One that another process saves under this name meanwhile has a signature of its own.
    usual = durable.sync_directory

    def save_another(directory: Path) -> None:
        usual(directory)
        if directory == tmp_path and not final.exists():
            monkeypatch.setattr(publish, "sync_directory", usual)
            save(final)

    monkeypatch.setattr(publish, "sync_directory", save_another)
    remove(final)
    assert contents(final) == WHOLE
    assert (tmp_path / SIGNATURE).read_bytes() == b"signed"


def test_a_signature_that_cannot_be_moved_fails_no_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = save(tmp_path / "epoch-0001-aa")
    (tmp_path / SIGNATURE).write_bytes(b"signed")
    failing(monkeypatch, "rename", errno.EACCES, lambda path, *_: Path(path).suffix == ".sig")
    assert remove(final) == sum(map(len, WHOLE.values()))
    assert os.listdir(tmp_path) == [SIGNATURE]


def test_removing_what_another_process_removed_is_no_error(tmp_path: Path) -> None:
    assert remove(tmp_path / "epoch-0001-aa") == 0


def test_of_a_linked_checkpoint_only_the_link_is_removed(tmp_path: Path) -> None:
    target = save(tmp_path / "elsewhere" / "epoch-0001-aa")
    link = tmp_path / "epoch-0001-aa"
    link.symlink_to(target)
    assert remove(link) == 0
    assert not link.is_symlink()
    assert contents(target) == WHOLE


def test_a_checkpoint_that_may_not_be_removed_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = save(tmp_path / "epoch-0001-aa")
    failing(monkeypatch, "rename", errno.EACCES)
    with pytest.raises(CheckpointWriteError) as caught:
        remove(final)
    assert caught.value.errno == errno.EACCES
    assert contents(final) == WHOLE


@pytest.mark.parametrize("refusal", REFUSALS)
def test_where_a_directory_cannot_be_renamed_meta_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    final = save(tmp_path / "epoch-0001-aa")
    failing(monkeypatch, "rename", getattr(errno, refusal))
    gone: list[str] = []

    def note(name: str | Path, **where: object) -> bool:
        gone.append(Path(name).name)
        return False

    failing(monkeypatch, "unlink", 0, note)
    remove(final)
    assert gone[0] == layout.META
    assert os.listdir(tmp_path) == []


def test_hard_linked_files_of_another_checkpoint_survive_a_removal(tmp_path: Path) -> None:
    first, second = save(tmp_path / "epoch-0001-aa"), save(tmp_path / "epoch-0002-bb")
    os.unlink(second / "model.safetensors")
    os.link(first / "model.safetensors", second / "model.safetensors")
    freed = remove(first)
    assert contents(second) == WHOLE
    assert freed == len(layout.META)


def test_a_mount_without_links_frees_before_it_unlinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = save(tmp_path / "epoch-0001-aa")
    held = os.open(final / "model.safetensors", os.O_RDONLY)
    failing(monkeypatch, "link", errno.EPERM)
    remove(final)
    assert os.fstat(held).st_size == 0
    os.close(held)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMLINK, errno.EIO])
def test_a_file_is_not_emptied_where_links_may_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    final = save(tmp_path / "epoch-0001-aa")
    held = os.open(final / "model.safetensors", os.O_RDONLY)
    failing(monkeypatch, "link", number)
    remove(final)
    assert os.fstat(held).st_size == len("model.safetensors")
    os.close(held)


def test_a_save_that_does_not_fit_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    free = free_bytes(tmp_path)
    assert free is not None
    with pytest.raises(InsufficientSpaceError) as caught:
        require_space(tmp_path / "not" / "yet", free * 2)
    assert caught.value.needed_bytes == free * 2
    assert caught.value.free_bytes <= free * 2
    assert caught.value.errno == errno.ENOSPC
    require_space(tmp_path / "not" / "yet", 1)
    assert os.listdir(tmp_path) == []


def test_what_dead_writers_left_is_cleared_before_a_root_is_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f"{layout.TRASH_PREFIX}old"
    left.mkdir()
    os.utime(left, (1, 1))
    monkeypatch.setattr(publish, "free_bytes", lambda path: 0 if left.exists() else 100)
    require_space(tmp_path, 50)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_clears_by_the_clock_of_the_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f"{layout.STAGING_PREFIX}of-another-machine"
    left.mkdir()
    monkeypatch.setattr("time.time", lambda: left.stat().st_mtime + 8 * 24 * 3600)
    monkeypatch.setattr(publish, "free_bytes", lambda path: 0)
    for number in (0, errno.ENOSPC):  # also where the mount's clock cannot be asked
        if number:
            failing(monkeypatch, "mkdir", number)
        with pytest.raises(InsufficientSpaceError):
            require_space(tmp_path, 50)
        assert left.exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_mount_that_does_not_say_what_is_free_is_not_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing(monkeypatch, "statvfs", number)
    assert free_bytes(tmp_path) is None
    require_space(tmp_path, 1 << 60)


def test_what_is_protected_while_it_is_removed_comes_back_whole(tmp_path: Path) -> None:
    final = save(tmp_path / "epoch-0001-aa")
    with pytest.raises(CheckpointWriteError, match="protected this moment") as caught:
        remove(final, unless=lambda: not final.exists())
    assert caught.value.errno == errno.EBUSY
    assert contents(final) == WHOLE
    assert os.listdir(tmp_path) == [final.name]


def test_what_is_protected_is_whole_also_where_nothing_can_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = save(tmp_path / "epoch-0001-aa")
    failing(monkeypatch, "rename", errno.EXDEV)
    with pytest.raises(CheckpointWriteError, match="protected this moment"):
        remove(final, unless=lambda: True)
    assert contents(final) == WHOLE


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_checkpoint_comes_back_when_it_is_not_known_whether_it_is_protected(
    tmp_path: Path, number: int
) -> None:
    def unreadable() -> bool:
        raise OSError(number, os.strerror(number))

    final = save(tmp_path / "epoch-0001-aa")
    with pytest.raises(CheckpointWriteError, match="was not removed") as caught:
        remove(final, unless=unreadable)
    assert caught.value.errno == number
    assert contents(final) == WHOLE
    assert os.listdir(tmp_path) == [final.name]


def test_a_checkpoint_comes_back_when_the_removal_is_interrupted_or_not_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> bool:
        raise KeyboardInterrupt

    final = save(tmp_path / "epoch-0001-aa")
    with pytest.raises(KeyboardInterrupt):
        remove(final, unless=interrupt)
    assert contents(final) == WHOLE
    failing(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(CheckpointWriteError, match="was not removed"):
        remove(final)
    assert contents(final) == WHOLE


def test_a_checkpoint_that_cannot_come_back_is_told_with_the_place_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = save(tmp_path / "epoch-0001-aa")
    failing(monkeypatch, "rename", errno.EIO, lambda source, target: target == final)
    with pytest.raises(CheckpointWriteError, match="could not be put back") as caught:
        remove(final, unless=lambda: True)
    (trash,) = tmp_path.iterdir()
    assert str(trash) in str(caught.value)
    assert contents(trash) == WHOLE


def test_one_that_is_unmarked_and_not_removed_is_not_called_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = save(tmp_path / "epoch-0001-aa")
    failing(monkeypatch, "rename", errno.EXDEV)
    failing(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(CheckpointWriteError, match="is no checkpoint any more"):
        remove(final)


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
