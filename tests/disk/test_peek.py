"""The quick reading of a listing, and what it leaves to the careful one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import peek
from smartcash_format.spec import layout, limits
from smartcash_format.spec.digest import seal
from smartcash_format.store.catalog import Listing, scan
from tests.opened import opened_files
from tests.store.checkpoints import write_checkpoint

needs_pread = pytest.mark.skipif(not hasattr(os, "pread"), reason="the system has no pread")


def same(one: Listing, other: Listing) -> bool:
    return [(e.path, e.meta_bytes) for e in one] == [(e.path, e.meta_bytes) for e in other]


@needs_pread
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_only_a_plain_meta_json_within_its_limit_is_read_in_the_usual_way(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    for name in ("absent", "pipe", "link", "directory", "large", "empty"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / layout.META)
    (tmp_path / "link" / layout.META).symlink_to(path / layout.META)
    (tmp_path / "directory" / layout.META).mkdir()
    (tmp_path / "empty" / layout.META).touch()
    (tmp_path / "large" / layout.META).touch()
    os.truncate(tmp_path / "large" / layout.META, limits.META_BYTES + 1)
    data = (path / layout.META).read_bytes()
    with peek.opened_directory(str(tmp_path)) as root:
        for name in sorted(os.listdir(tmp_path)):
            expected = [data if name == path.name else b""]
            assert peek.usual_meta_bytes([name], root) == expected
            assert peek.usual_meta_bytes([str(tmp_path / name)]) == expected


@needs_pread
@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no /dev/zero")
def test_of_a_device_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = os.open
    monkeypatch.setattr(os, "open", lambda *_, **__: honest("/dev/zero", os.O_RDONLY))
    assert peek.usual_meta_bytes(["anywhere"]) == [b""]


@needs_pread
def test_a_usual_listing_reads_each_meta_json_once_and_a_short_read_is_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_checkpoint(tmp_path, number)
    honest, careful = os.pread, []
    usual = peek.meta_bytes

    def carefully(*arguments: Any) -> bytes:
        careful.append(arguments)
        return usual(*arguments)

    monkeypatch.setattr(peek, "meta_bytes", carefully)
    with opened_files() as opened:
        whole = scan(tmp_path)
    assert len(whole) == 3
    assert careful == []
    assert len([name for name in opened if str(name).endswith(layout.META)]) == 3
    monkeypatch.setattr(os, "pread", lambda fd, size, place: honest(fd, size // 2, place))
    assert same(scan(tmp_path), whole)
    assert len(careful) == 3


@pytest.mark.parametrize("read", [None, lambda fd, size, place: b"{"])
def test_a_system_without_pread_or_with_short_reads_lists_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    """Also what a listing does not look at, and a validation would refuse."""
    write_checkpoint(tmp_path, 1)
    path = write_checkpoint(tmp_path, 2)
    document = json.loads((path / layout.META).read_bytes())
    (path / layout.META).write_bytes(seal({**document, "notes": ["no object"]}))
    whole = scan(tmp_path)
    assert len(whole) == 2
    monkeypatch.setattr(os, "pread", read, raising=False)
    if read is None:
        monkeypatch.delattr(os, "pread")
    assert same(scan(tmp_path), whole)


def test_sizes_hold_only_for_plain_files_of_the_listed_sizes(tmp_path: Path) -> None:
    (entry,) = scan(write_checkpoint(tmp_path, 1).parent)
    names = [str(entry)]
    assert peek.sizes_hold(names, [entry._seen]) == [True]
    assert peek.sizes_hold(names, [None]) == [False]
    listed = entry._seen
    for changed in (
        listed._replace(sizes=(*listed.sizes[:-1], listed.sizes[-1] + 1)),
        listed._replace(names=(*listed.names[:-1], "absent.bin")),
    ):
        assert peek.sizes_hold([*names, *names], [changed, listed]) == [False, True]
    target = entry / listed.names[0]
    target.rename(tmp_path / "elsewhere")
    target.symlink_to(tmp_path / "elsewhere")
    assert peek.sizes_hold(names, [listed]) == [False]
