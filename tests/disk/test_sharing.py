"""A file of a published checkpoint in a stage: the very one that was looked at, or none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import sharing
from smartcash_format.disk.observe import observe
from smartcash_format.disk.publish import Stage, stage
from smartcash_format.disk.read import Opened, open_checkpoint
from smartcash_format.disk.sharing import SoundFiles
from smartcash_format.spec.problems import Depth
from smartcash_format.testing.sample import write_sample

WEIGHTS = "model.safetensors"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    with open_checkpoint(write_sample(tmp_path, epoch=1)) as found:
        yield found


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path / "epoch-0002-aa") as made:
        yield made


def test_a_sound_file_is_linked(opened: Opened, staged: Stage) -> None:
    assert SoundFiles().link(opened, WEIGHTS, staged, "ema.safetensors") is None
    assert os.path.samefile(opened.path / WEIGHTS, staged.path / "ema.safetensors")


def test_a_file_that_was_written_to_after_it_was_sound_is_looked_at_again(
    opened: Opened, staged: Stage
) -> None:
    sound = SoundFiles()
    assert sound.link(opened, WEIGHTS, staged, "one") is None
    path = opened.path / WEIGHTS
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    reason = sound.link(opened, WEIGHTS, staged, "two")
    assert reason is not None
    assert WEIGHTS in reason
    assert os.listdir(staged.path) == ["one"]


def test_a_writer_that_restores_the_time_is_seen_too(opened: Opened, staged: Stage) -> None:
    sound = SoundFiles()
    assert sound.link(opened, WEIGHTS, staged, "one") is None
    path = opened.path / WEIGHTS
    facts = path.stat()
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    reason = sound.link(opened, WEIGHTS, staged, "two")
    assert reason is not None
    assert WEIGHTS in reason


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each time that bytes are compared with their digests."""
    seen: list[object] = []

    def look(opened: Opened, depth: Depth, **options: Any) -> Any:
        seen.append(opened)
        return observe(opened, depth, **options)

    monkeypatch.setattr(sharing, "observe", look)
    return seen


def test_links_of_our_own_are_no_reason_to_look_again_and_those_of_others_are(
    opened: Opened, staged: Stage, looks: list[object], tmp_path: Path
) -> None:
    sound = SoundFiles()
    for name in ("one", "two", "three"):
        assert sound.link(opened, WEIGHTS, staged, name) is None
    with sound.unlinking(opened.path, [WEIGHTS, "none"]):
        os.unlink(staged.path / "one")
    assert sound.link(opened, WEIGHTS, staged, "four") is None
    assert len(looks) == 1
    os.unlink(staged.path / "two")
    assert sound.link(opened, WEIGHTS, staged, "five") is None
    assert len(looks) == 2


def test_what_happened_before_a_removal_of_ours_is_still_seen(
    opened: Opened, staged: Stage, looks: list[object]
) -> None:
    sound = SoundFiles()
    assert sound.link(opened, WEIGHTS, staged, "one") is None
    os.chmod(opened.path / WEIGHTS, 0o600)
    with sound.unlinking(opened.path, [WEIGHTS]):
        os.unlink(staged.path / "one")
    assert sound.link(opened, WEIGHTS, staged, "two") is None
    assert len(looks) == 2


def test_what_is_linked_is_on_the_disk(
    opened: Opened, staged: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    sound = SoundFiles()
    for name in ("one", "two"):
        assert sound.link(opened, WEIGHTS, staged, name) is None
    assert synced == [(opened.path / WEIGHTS).stat().st_ino]

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    reason = SoundFiles().link(opened, WEIGHTS, staged, "three")
    assert reason == f"{WEIGHTS}: Input/output error"
    assert not (staged.path / "three").exists()


def test_a_file_that_takes_the_place_of_the_one_looked_at_is_not_linked(
    opened: Opened, staged: Stage
) -> None:
    sound = SoundFiles()
    assert opened.size(WEIGHTS) > 0
    path = opened.path / WEIGHTS
    os.rename(path, path.with_name("aside"))
    path.write_bytes(path.with_name("aside").read_bytes())
    reason = sound.link(opened, WEIGHTS, staged, WEIGHTS)
    assert reason is not None
    assert "another file has its name now" in reason
    assert os.listdir(staged.path) == []


def test_a_link_whose_answer_was_lost_is_there(
    opened: Opened, staged: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def lose(source: Path, target: Path, **options: bool) -> None:
        real(source, target, **options)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "link", lose)
    assert SoundFiles().link(opened, WEIGHTS, staged, WEIGHTS) is None
    assert os.listdir(staged.path) == [WEIGHTS]


@pytest.mark.parametrize("what", ["file", "checkpoint", "symlink"])
def test_what_is_gone_or_no_file_is_not_linked(
    opened: Opened, staged: Stage, tmp_path: Path, what: str
) -> None:
    if what == "checkpoint":
        os.rename(opened.path, tmp_path / ".trash-aa")
        assert opened.size(WEIGHTS) > 0
    else:
        os.rename(opened.path / WEIGHTS, tmp_path / "aside")
    if what == "symlink":
        os.symlink(tmp_path / "aside", opened.path / WEIGHTS)
    assert SoundFiles().link(opened, WEIGHTS, staged, WEIGHTS) is not None
    assert os.listdir(staged.path) == []
