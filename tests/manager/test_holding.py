from __future__ import annotations

import errno
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from smartcash_format.disk import pins
from smartcash_format.errors import CheckpointNotFoundError, InvalidCheckpointError
from smartcash_format.manager import holding
from smartcash_format.spec import layout
from smartcash_format.spec.pin import Pin
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.testing.sample import write_sample
from tests.manager.training import manager, said


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [write_sample(tmp_path / "root", epoch=epoch) for epoch in (1, 2, 3)]


def prune(root: Path) -> list[str]:
    other, _ = manager(root)
    return [path.name for path in other.cleanup_checkpoints(0, keep_best=False, max_epochs=1)]


def test_what_is_being_read_is_not_pruned_and_then_it_is(paths: list[Path]) -> None:
    root = paths[0].parent
    reader, _ = manager(root)
    with reader.reading(paths[0]) as path:
        assert path == paths[0]
        assert prune(root) == [paths[1].name]
        assert paths[0].is_dir()
    assert prune(root) == [paths[0].name]
    assert os.listdir(root / layout.PINS) == []


def test_two_readers_hold_it_until_both_are_done(paths: list[Path]) -> None:
    root = paths[0].parent
    one, two = manager(root)[0], manager(root)[0]
    with one.reading(paths[0]):
        with two.reading(paths[0].name):
            pass
        assert paths[0].name not in prune(root)


def test_what_is_read_through_a_link_is_held_where_it_lies(paths: list[Path]) -> None:
    links = paths[0].parent.parent / "links"
    links.mkdir()
    (links / "best").symlink_to(paths[0])
    reader, _ = manager(links)
    with reader.reading("best") as path:
        assert path == links / "best"
        assert paths[0].name not in prune(paths[0].parent)
    assert paths[0].name in prune(paths[0].parent)


def test_a_reader_does_not_lift_the_protection_that_was_there(paths: list[Path]) -> None:
    reader, _ = manager(paths[0].parent)
    reader.protect(paths[0], "published")
    with reader.reading(paths[0]):
        pass
    assert paths[0].name not in prune(paths[0].parent)


def test_a_pin_is_renewed_while_the_reading_goes_on(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "RENEW_S", 0.02)
    ends: set[datetime | None] = set()
    real = pins.write_pin

    def note(root: Path, checkpoint_id: str, pin: Pin, *, holder: str = "") -> None:
        ends.add(pin.until)
        real(root, checkpoint_id, pin, holder=holder)

    monkeypatch.setattr(pins, "write_pin", note)
    reader, _ = manager(paths[0].parent)
    with reader.reading(paths[0]):
        deadline = time.monotonic() + 30
        while len(ends) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(ends) >= 3


def test_a_reader_that_was_killed_protects_no_longer_than_its_end(paths: list[Path]) -> None:
    root = paths[0].parent
    entry = CheckpointStore(root).list()[-1]
    past = datetime.now(UTC) - timedelta(seconds=1)
    pins.write_pin(root, entry.checkpoint_id, Pin(reason="read", until=past), holder="reader-x")
    assert prune(root) == [paths[0].name, paths[1].name]
    assert os.listdir(root / layout.PINS) == []


def test_a_root_that_cannot_be_written_says_that_nothing_is_pinned(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    reader, log = manager(paths[0].parent)
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refuse)
        with reader.reading(paths[0]) as path:
            assert path == paths[0]
    assert "is not pinned" in said(log, "warning")
    assert "Read-only file system" in said(log, "warning")


def test_nothing_there_is_an_error_before_anything_is_pinned(tmp_path: Path) -> None:
    reader, _ = manager(tmp_path / "root")
    with pytest.raises(CheckpointNotFoundError), reader.reading("epoch-0001"):
        pytest.fail("the block must not be entered")
    (tmp_path / "root" / "epoch-0001").mkdir(parents=True)
    with pytest.raises(InvalidCheckpointError), reader.reading("epoch-0001"):
        pytest.fail("the block must not be entered")
    assert os.listdir(tmp_path / "root") == ["epoch-0001"]


def test_one_that_goes_between_the_look_and_the_pin_is_not_found(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = paths[0].parent
    real = holding._pin

    def late(*args: str) -> None:
        CheckpointStore(root).apply(CheckpointStore(root).plan_cleanup(max_epochs=1))
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(holding, "_pin", late)
    reader, _ = manager(root)
    with pytest.raises(CheckpointNotFoundError), reader.reading(paths[0]):
        pytest.fail("the block must not be entered")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_does_not_lift_the_pin_of_its_parent(paths: list[Path]) -> None:
    root = paths[0].parent
    reader, _ = manager(root)
    reading = reader.reading(paths[0])
    with reading:
        child = os.fork()
        if child == 0:
            reading.__exit__(None, None, None)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert len(os.listdir(root / layout.PINS)) == 1
    assert os.listdir(root / layout.PINS) == []
