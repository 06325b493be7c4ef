"""A removal takes a checkpoint and its signature, and nothing else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from smartcash_format.disk import durable, publish
from smartcash_format.disk.publish import remove
from smartcash_format.errors import CheckpointWriteError
from smartcash_format.spec import layout
from tests.disk.staging import REFUSALS, WHOLE, contents, failing, save


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
