"""A listing beside a pruner that sets a checkpoint apart, and puts it back as it was pinned."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import peek
from smartcash_format.store.catalog import read_entry, scan
from smartcash_format.store.entry import Entry
from tests.store.checkpoints import write_checkpoint

TRASH = ".trash-of-another"


def read_one_by_one(monkeypatch: pytest.MonkeyPatch, read: Callable[..., bytes]) -> None:
    """Every meta.json is read by `read`, none in the usual way."""
    monkeypatch.setattr(
        peek, "usual_meta_bytes", lambda directories, root: [b""] * len(directories)
    )
    monkeypatch.setattr(peek, "meta_bytes", read)


def when_looked_at(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Calls `act` after each look at a file that a meta.json lists, with the number of the look.

    The first one is the quick look, all of which fails here, as if the checkpoint were gone.
    """
    looks = iter(range(1, 1_000))
    usual = os.stat, os.lstat

    def quick(directories: Sequence[str], listed: object, root: int | None) -> list[bool]:
        act(0)
        return [False for _ in directories]

    def looked(honest: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def look(path: Any, **options: Any) -> os.stat_result:
            try:
                return honest(path, **options)
            finally:
                if str(path).endswith((".safetensors", ".pt", "tensors.json")):
                    act(next(looks))

        return look

    monkeypatch.setattr(peek, "sizes_hold", quick)
    monkeypatch.setattr(os, "stat", looked(usual[0]))
    monkeypatch.setattr(os, "supports_dir_fd", {*os.supports_dir_fd, os.stat})
    monkeypatch.setattr(os, "lstat", looked(usual[1]))


@pytest.mark.skipif(os.stat not in os.supports_dir_fd, reason="nothing is opened relative to one")
@pytest.mark.parametrize(("apart", "back"), [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)])
def test_a_checkpoint_that_is_put_back_is_never_seen_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: int, back: int
) -> None:
    path = write_checkpoint(tmp_path, 1)

    def act(look: int) -> None:
        if look == apart:
            os.rename(path, tmp_path / TRASH)
        if look == back:
            os.rename(tmp_path / TRASH, path)

    when_looked_at(monkeypatch, act)
    listing = scan(tmp_path)
    assert [*listing.broken, *listing.foreign] == []
    # Whoever looks while it is apart does not see it.
    assert [found.epoch for found in listing] == ([] if apart == 0 else [1])


def test_a_checkpoint_that_is_emptied_after_it_was_set_apart_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path, 1)

    def act(look: int) -> None:
        if look == 1:
            os.rename(path, tmp_path / TRASH)
            for name in os.listdir(tmp_path / TRASH):
                if name != "meta.json":
                    os.unlink(tmp_path / TRASH / name)

    when_looked_at(monkeypatch, act)
    listing = scan(tmp_path)
    assert [*listing, *listing.broken, *listing.foreign] == []


def test_a_checkpoint_that_is_put_back_after_the_look_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path, 1)
    (tmp_path / "foreign").mkdir()
    honest, times = peek.meta_bytes, iter(range(1_000))

    def apart(directory: str, root: int | None) -> bytes:
        if Path(directory).name == path.name and next(times) < 2:
            raise FileNotFoundError(2, "set apart, and put back after the look", directory)
        return honest(directory, root)

    read_one_by_one(monkeypatch, apart)
    listing = scan(tmp_path)
    assert [found.epoch for found in listing] == [1]
    assert listing.foreign == (tmp_path / "foreign",)
    times = iter(range(1_000))
    assert isinstance(read_entry(path), Entry)


def test_what_comes_and_goes_all_the_time_is_not_foreign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path, 1)

    def apart(directory: str, root: int | None) -> bytes:
        raise FileNotFoundError(2, "set apart, and put back after the look", directory)

    read_one_by_one(monkeypatch, apart)
    listing = scan(tmp_path)
    assert [*listing, *listing.broken, *listing.foreign] == []
    assert path.is_dir()


def test_a_directory_that_goes_while_it_is_looked_at_is_not_foreign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "foreign"
    directory.mkdir()
    assert peek.is_unmarked(str(directory))
    usual = peek.opened_directory

    @contextmanager
    def then_lose(path: str) -> Iterator[int | None]:
        with usual(path) as descriptor:
            directory.rename(tmp_path / TRASH)
            yield descriptor

    monkeypatch.setattr(peek, "opened_directory", then_lose)
    assert not peek.is_unmarked(str(directory))
    assert not peek.is_unmarked(str(directory))
