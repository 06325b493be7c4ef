from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smartcash_format.disk import leftovers as module
from smartcash_format.disk.leftovers import UNKNOWN_OWNER_S, discard, leftovers
from smartcash_format.disk.observe import validate
from smartcash_format.disk.owner import this_process
from smartcash_format.disk.pins import write_pin
from smartcash_format.disk.publish import remove, stage
from smartcash_format.disk.read import read_meta
from smartcash_format.disk.sweeping import sweep
from smartcash_format.spec import layout
from smartcash_format.spec.pin import Pin
from smartcash_format.spec.problems import Depth
from smartcash_format.testing.sample import write_sample

STRANGER = "0123abcd-77-88-00000000"
WEEK_S = UNKNOWN_OWNER_S


@pytest.fixture(scope="module")
def dead() -> str:
    """The owner's part of the name of something that a dead process left."""
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from smartcash_format.disk.owner import this_process; print(this_process().name())"
    )
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


def leave(root: Path, owner: str, *, prefix: str = layout.STAGING_PREFIX) -> Path:
    left = root / f"{prefix}{owner}"
    left.mkdir()
    (left / "model.safetensors").write_bytes(bytes(1000))
    return left


@pytest.mark.parametrize("prefix", [layout.STAGING_PREFIX, layout.TRASH_PREFIX])
def test_what_a_dead_writer_left_is_cleared(root: Path, dead: str, prefix: str) -> None:
    left = leave(root, dead, prefix=prefix)
    (cleared,) = sweep(root)
    assert (cleared.path, cleared.life, cleared.size_bytes) == (left, "dead", 1000)
    assert os.listdir(root) == []


def test_without_the_mounts_clock_only_the_dead_are_cleared(root: Path, dead: str) -> None:
    old = leave(root, STRANGER)
    os.utime(old, (1, 1))
    leave(root, dead)
    assert [cleared.life for cleared in sweep(root)] == ["dead"]
    assert list(root.iterdir()) == [old]


def test_what_a_running_writer_has_is_left_alone_however_old(root: Path) -> None:
    left = leave(root, this_process().name())
    os.utime(left, (1, 1))
    assert sweep(root) == []
    (found,) = leftovers(root)
    assert (found.life, found.is_garbage) == ("alive", False)


def test_the_next_save_clears_what_a_dead_writer_left(root: Path, dead: str) -> None:
    leave(root, dead)
    with stage(root / "epoch-0001-aa"):
        pass
    assert os.listdir(root) == []


@pytest.mark.parametrize("owner", [STRANGER, "", "no owner at all"])
def test_what_an_unknown_writer_left_is_cleared_after_a_week(root: Path, owner: str) -> None:
    left = leave(root, owner)
    made = left.stat().st_mtime
    assert sweep(root, now=made + WEEK_S - 60) == []
    assert [found.age_s for found in leftovers(root, now=made + 60)] == [60]
    assert [found.path for found in sweep(root, now=made + WEEK_S + 60)] == [left]
    assert not left.exists()


def test_the_age_in_a_save_is_by_the_clock_of_the_mount(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = leave(root, STRANGER)
    monkeypatch.setattr("time.time", lambda: left.stat().st_mtime + 10 * WEEK_S)
    with stage(root / "epoch-0001-aa"):
        pass
    assert left.exists()


def test_the_target_of_a_planted_link_is_never_cleared(root: Path, dead: str) -> None:
    home = root.parent / "home"
    home.mkdir()
    (home / "thesis").write_text("years")
    (root / f"{layout.STAGING_PREFIX}{dead}").symlink_to(home)
    sweep(root)
    assert (home / "thesis").read_text() == "years"
    assert os.listdir(root) == []


def test_links_inside_a_leftover_are_never_followed(
    root: Path, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = root.parent / "home"
    home.mkdir()
    (home / "thesis").write_text("years")
    left = leave(root, dead)
    (left / "directory").symlink_to(home)
    (left / "file").symlink_to(home / "thesis")
    os.link(home / "thesis", left / "hard")
    monkeypatch.setattr(module, "_links_work", lambda descriptor: False)  # it truncates then
    sweep(root)
    assert (home / "thesis").read_text() == "years"
    assert os.listdir(root) == []


def test_a_file_under_the_name_of_a_stage_is_cleared(root: Path, dead: str) -> None:
    (root / f"{layout.TRASH_PREFIX}{dead}").write_text("")
    sweep(root)
    assert os.listdir(root) == []


def test_a_planted_leftover_is_followed_only_so_deep(root: Path, dead: str) -> None:
    left = leave(root, dead)
    deep = left.joinpath(*"d" * 20)
    deep.mkdir(parents=True)
    sweep(root)
    (claimed,) = root.iterdir()
    assert (claimed / deep.relative_to(left)).exists()
    assert os.listdir(claimed) == ["d"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_leftover_that_is_closed_to_us_is_listed_and_costs_no_save(root: Path, dead: str) -> None:
    left = leave(root, dead)
    left.chmod(0)
    try:
        with stage(root / "epoch-0001-aa"):
            pass
        assert [found.path for found in leftovers(root)] == [left]
    finally:
        left.chmod(0o700)


def test_a_leftover_that_cannot_be_deleted_costs_no_save(
    root: Path, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = leave(root, dead)
    (left / "sub").mkdir()

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        patch.setattr(os, "rmdir", refuse)
        with stage(root / "epoch-0001-aa"):
            pass
    # Nobody can publish it any more, and it goes after this process.
    assert not left.exists()
    (claimed,) = (each for each in leftovers(root) if each.kind == "trash")
    assert claimed.life == "alive"
    assert claimed.size_bytes > 0


def test_what_an_interrupted_removal_left_is_cleared_by_the_next_save_of_this_process(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    path = write_sample(root, epoch=9)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_delete", interrupt)
        with pytest.raises(KeyboardInterrupt):
            remove(path)
        with pytest.raises(KeyboardInterrupt), stage(root / "epoch-0010-aa") as staged:
            os.close(staged.create("model.safetensors"))
    assert [each.kind for each in leftovers(root)] == ["stage", "trash"]
    with stage(root / "epoch-0011-aa") as staged:
        # What is at work here is left alone.
        assert [each.path for each in leftovers(root)] == [staged.path]
        sweep(root)
        assert staged.path.is_dir()
    assert leftovers(root) == []


def test_discarding_what_is_not_there_frees_nothing(root: Path) -> None:
    assert discard(root / "nothing") == 0


def test_other_hidden_names_are_no_leftovers(root: Path) -> None:
    (root / layout.PINS).mkdir()
    (root / ".stagings").mkdir()
    assert leftovers(root, now=1e12) == []


def test_what_a_dead_writer_left_among_the_pins_is_cleared(root: Path, dead: str) -> None:
    (root / layout.PINS).mkdir()
    (root / layout.PINS / f"{layout.STAGING_PREFIX}{dead}").write_bytes(b"{}")
    (root / layout.PINS / "id.json").write_bytes(b"{}")
    sweep(root)
    assert os.listdir(root / layout.PINS) == ["id.json"]


def test_pins_that_are_a_link_are_no_way_out_of_the_root(root: Path, dead: str) -> None:
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"{layout.STAGING_PREFIX}{dead}").write_bytes(b"")
    (root / layout.PINS).symlink_to(elsewhere)
    sweep(root)
    assert len(os.listdir(elsewhere)) == 1


def in_the_trash_of(root: Path, dead: str) -> tuple[Path, Path]:
    """A checkpoint, and where its pruner left it when it was killed."""
    path = write_sample(root, epoch=3)
    trash = root / f"{layout.TRASH_PREFIX}{dead}"
    path.rename(trash)
    return path, trash


def test_a_protected_checkpoint_that_a_killed_pruner_left_comes_back(root: Path, dead: str) -> None:
    path, trash = in_the_trash_of(root, dead)
    write_pin(root, read_meta(trash).checkpoint_id, Pin(reason="table 2"))
    assert sweep(root) == []
    assert validate(path, Depth.CONTENT).valid
    assert not trash.exists()


def test_it_comes_back_beside_what_has_its_name_meanwhile(root: Path, dead: str) -> None:
    path, trash = in_the_trash_of(root, dead)
    write_pin(root, read_meta(trash).checkpoint_id, Pin(reason="table 2"))
    path.mkdir()
    sweep(root)
    assert validate(path.with_name(f"{path.name}-1"), Depth.CONTENT).valid


def test_one_that_is_not_protected_or_no_longer_whole_goes(root: Path, dead: str) -> None:
    _, trash = in_the_trash_of(root, dead)
    sweep(root)
    assert os.listdir(root) == []
    _, trash = in_the_trash_of(root, dead)
    write_pin(root, read_meta(trash).checkpoint_id, Pin(reason="table 2"))
    (trash / layout.OPTIMIZER).unlink()
    sweep(root)
    assert os.listdir(root) == [layout.PINS]


def test_while_pins_cannot_be_read_no_checkpoint_in_the_trash_goes(
    root: Path, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, trash = in_the_trash_of(root, dead)
    stage = leave(root, dead)
    (root / layout.PINS).write_text("no directory")
    assert [cleared.path for cleared in sweep(root)] == [stage]
    assert validate(trash, Depth.CONTENT).valid
