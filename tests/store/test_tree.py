"""A tree of runs is searched by names, and what cannot be read in it costs no other."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from smartcash_format.spec import layout
from smartcash_format.store.tree import find_roots, search
from tests.store.checkpoints import write_checkpoint


def test_a_tree_gives_its_roots_and_one_listing_of_them_all(tmp_path: Path) -> None:
    for number, root in enumerate(["a/weights", "b", "b/nested/weights", "a/weights/deeper"]):
        write_checkpoint(tmp_path / root, number)
    (tmp_path / "history-only").mkdir()
    (tmp_path / "history-only" / layout.HISTORY).write_text("")
    write_checkpoint(tmp_path / ".hidden", 8)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    found = [path.relative_to(tmp_path).as_posix() for path in find_roots(tmp_path)]
    assert found == ["a/weights", "a/weights/deeper", "b", "b/nested/weights", "history-only"]
    assert [entry.epoch for entry in search(tmp_path)] == [3, 2, 1, 0]
    assert list(find_roots(tmp_path / "nowhere")) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_root_in_the_tree_that_cannot_be_listed_is_broken_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write_checkpoint(tmp_path / "open", 1)
    (tmp_path / "shut").mkdir()
    honest = os.scandir

    def guarded(path: str) -> object:
        if os.fspath(path).endswith("shut"):
            raise OSError(number, os.strerror(number), path)
        return honest(path)

    monkeypatch.setattr(os, "scandir", guarded)
    listing = search(tmp_path)
    assert [entry.epoch for entry in listing] == [1]
    assert [(one.path.name, one.code) for one in listing.broken] == [("shut", "file-unreadable")]
    assert os.strerror(number) in listing.broken[0].reason
