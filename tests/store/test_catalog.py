"""A listing reads meta.json alone, and says what it cannot read."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import peek
from smartcash_format.disk.observe import validate
from smartcash_format.spec import layout, limits, watching
from smartcash_format.spec.digest import seal
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.watching import Progress
from smartcash_format.store import catalog
from smartcash_format.store.catalog import Listing, merge, newest_first, read_entry, scan
from smartcash_format.store.entry import Broken, Entry
from smartcash_format.store.glance import Glance, glance
from smartcash_format.store.tree import search
from tests.opened import opened_files
from tests.store.checkpoints import START, codes, write_checkpoint
from tests.store.test_catalog_in_crowds import read_one_by_one


def only_broken(root: Path) -> Broken:
    listing = scan(root)
    assert not len(listing)
    assert len(listing.broken) == 1
    return listing.broken[0]


def rewrite(path: Path, **changes: Any) -> None:
    document = json.loads((path / layout.META).read_bytes())
    (path / layout.META).write_bytes(seal({**document, **changes}))


def test_a_root_that_is_missing_or_empty_lists_nothing(tmp_path: Path) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        listing = scan(root)
        assert list(listing) == []
        assert not listing
        assert [*listing.broken, *listing.foreign, *listing.legacy] == []
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_a_file_raises_what_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        scan(tmp_path / "file")


def test_the_order_is_that_of_saving_whatever_names_epochs_and_file_times_say(
    tmp_path: Path,
) -> None:
    first = write_checkpoint(tmp_path, 1, name="z", epoch=20, step=900)
    third = write_checkpoint(tmp_path, 3, name="a", epoch=11)
    second = write_checkpoint(tmp_path, 2, name="m", epoch=10)
    for age, path in enumerate((first, second, third)):
        os.utime(path, (1e9 - age, 1e9 - age))
    assert [found.path for found in scan(tmp_path)] == [third, second, first]


def test_checkpoints_of_one_moment_stand_in_the_order_of_their_ids(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path, n, saved_at=START) for n in (5, 9, 2)]
    assert [found.path for found in scan(tmp_path)] == [paths[1], paths[0], paths[2]]


def test_hidden_names_links_and_plain_files_are_never_checkpoints(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, name=".staging-x")
    write_checkpoint(tmp_path, 2, name=".trash-y")
    write_checkpoint(tmp_path, 3, name=".pins")
    write_checkpoint(tmp_path / "elsewhere", 4, name="real")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "real")
    (tmp_path / "meta.json").write_text("{}")
    listing = scan(tmp_path)
    assert list(listing) == []
    assert listing.broken == ()
    assert listing.foreign == (tmp_path / "elsewhere",)


def test_torch_files_in_the_root_are_counted(tmp_path: Path) -> None:
    for name in ("last.pt", "BEST.PTH", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert scan(tmp_path).legacy == (tmp_path / "BEST.PTH", tmp_path / "last.pt")


def test_a_directory_without_meta_json_is_foreign(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    (path / layout.META).unlink()
    listing = scan(tmp_path)
    assert listing.broken == ()
    assert listing.foreign == (path,)
    assert read_entry(path) is None


def test_listing_opens_meta_json_alone_and_once(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path, n) for n in range(20)]
    with opened_files() as opened:
        listing = scan(tmp_path)
    assert len(listing) == 20
    # The root itself, so that what is in it is opened relative to it.
    assert sorted(opened) == sorted([str(tmp_path), *(f"{p.name}/{layout.META}" for p in paths)])


def test_a_meta_json_of_a_newer_major_is_broken_and_says_upgrade(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    (path / layout.META).write_text('{"format": "smartcash-checkpoint", "format_version": "2.0"}')
    broken = only_broken(tmp_path)
    assert broken.path == path
    assert broken.code == "newer-version"
    assert "2.0 is newer than this reader" in broken.reason
    assert broken.problems[0].fix == "upgrade smartcash-format"


def test_a_meta_json_of_a_newer_minor_is_listed_with_its_unknown_keys(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    rewrite(path, format_version="1.7", novelty=[1])
    assert [found.path for found in scan(tmp_path)] == [path]


def test_a_meta_json_with_another_epoch_than_it_was_sealed_with_is_broken(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    data = (path / layout.META).read_bytes()
    (path / layout.META).write_bytes(data.replace(b'"epoch": 1', b'"epoch": 3'))
    assert codes(only_broken(tmp_path)) == ["meta-digest-mismatch"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "json-syntax"),
        (b"{", "json-syntax"),
        (b"[]", "field-invalid"),
        (b'{"format": "somebody-else"}', "foreign-format"),
        (b"\xff", "json-encoding"),
        (b'{"a": NaN}', "json-number"),
        (b" " * (limits.META_BYTES + 10), "json-too-large"),
    ],
)
def test_what_bears_a_meta_json_and_cannot_be_read_is_broken(
    tmp_path: Path, data: bytes, code: str
) -> None:
    path = write_checkpoint(tmp_path, 1)
    (path / layout.META).write_bytes(data)
    assert codes(only_broken(tmp_path)) == [code]


def test_a_listed_file_that_is_missing_or_short_or_no_file_makes_it_broken(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    (path / "optimizer.pt").unlink()
    os.truncate(path / "model.safetensors", 4_999)
    (path / "scheduler.pt").unlink()
    (path / "scheduler.pt").symlink_to(path / "tensors.json")
    broken = only_broken(tmp_path)
    assert broken.problems == validate(path, Depth.META).problems
    assert {problem.where: problem.code for problem in broken.problems} == {
        "optimizer.pt": "file-missing",
        "model.safetensors": "file-size",
        "scheduler.pt": "file-kind",
    }
    assert "(and 2 more)" in broken.reason


def test_a_listed_name_that_leaves_the_directory_is_never_looked_at(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    (tmp_path / "outside").write_bytes(b"x")
    record = {"role": "aux", "size_bytes": 1, "digest": "blake3:" + "ab" * 32}
    rewrite(path, files={"../outside": record})
    assert "file-name" in codes(only_broken(tmp_path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_meta_json_that_is_a_pipe_a_link_or_a_directory_is_broken_at_once(
    tmp_path: Path,
) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "a" / layout.META)
    (tmp_path / "b" / layout.META).symlink_to(write_checkpoint(tmp_path / "x", 1) / layout.META)
    (tmp_path / "c" / layout.META).mkdir()
    listing = scan(tmp_path)
    assert not listing
    assert [broken.code for broken in listing.broken] == ["file-kind"] * 3


def test_a_system_error_becomes_broken_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, 1)

    def refuse(directory: str, root: int | None) -> bytes:
        raise PermissionError(13, "Permission denied", directory)

    read_one_by_one(monkeypatch, refuse)
    broken = only_broken(tmp_path)
    assert codes(broken) == ["file-unreadable"]
    assert "Permission denied" in broken.reason


def test_a_checkpoint_removed_while_it_is_looked_at_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, 1)
    doomed = write_checkpoint(tmp_path, 2)
    honest = peek.usual_meta_bytes

    def read_then_lose(directories: Iterable[str], root: int | None) -> list[bytes]:
        found = honest(directories, root)
        doomed.rename(tmp_path / ".trash-1")
        return found

    monkeypatch.setattr(peek, "usual_meta_bytes", read_then_lose)
    listing = scan(tmp_path)
    assert [found.epoch for found in listing] == [1]
    assert [*listing.broken, *listing.foreign] == []


def test_a_system_that_opens_nothing_relative_to_a_directory_lists_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, 1)
    (write_checkpoint(tmp_path, 2) / "optimizer.pt").unlink()
    usual = scan(tmp_path)
    monkeypatch.setattr(os, "supports_dir_fd", set())
    other = scan(tmp_path)
    assert [str(found) for found in other] == [str(found) for found in usual]
    assert [found.reason for found in other.broken] == [found.reason for found in usual.broken]


def test_a_root_that_goes_while_it_is_listed_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    write_checkpoint(root, 1)
    honest = peek.opened_directory

    def lose(path: str) -> object:
        root.rename(tmp_path / "elsewhere")
        return honest(path)

    monkeypatch.setattr(peek, "opened_directory", lose)
    assert list(scan(root)) == []


def test_a_checkpoint_whose_last_file_comes_while_it_is_looked_at_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, 1)
    monkeypatch.setattr(peek, "sizes_hold", lambda directories, listed, root: [False])
    assert [found.epoch for found in scan(tmp_path)] == [1]


def test_a_slow_mount_is_read_by_threads_to_the_same_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        write_checkpoint(tmp_path, number)
    write_checkpoint(tmp_path, 40, name="zz-broken")
    (tmp_path / "zz-broken" / "model.safetensors").unlink()
    quick = scan(tmp_path)
    monkeypatch.setattr(catalog, "SLOW_LOOK_S", 0.0)
    slow = scan(tmp_path)
    assert slow.entries == quick.entries
    assert slow.broken == quick.broken
    assert len(slow) == 30


@pytest.mark.parametrize(("slow_look_s", "is_on"), [(1.0, False), (0.0, True)])
def test_the_collector_is_off_until_a_local_listing_is_sorted_and_on_while_a_slow_one_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow_look_s: float, is_on: bool
) -> None:
    for number in range(catalog.SMALL_BATCH + 1):
        write_checkpoint(tmp_path, number)
    collects: list[bool] = []

    def noting(documents: Sequence[bytes]) -> list[Glance | None]:
        collects.append(gc.isenabled())
        return glance(documents)

    def sorting(entries: Iterable[Entry]) -> tuple[Entry, ...]:
        collects.append(gc.isenabled())
        return newest_first(entries)

    monkeypatch.setattr(catalog, "SLOW_LOOK_S", slow_look_s)
    monkeypatch.setattr(catalog, "glance", noting)
    monkeypatch.setattr(catalog, "newest_first", sorting)
    assert len(scan(tmp_path)) == catalog.SMALL_BATCH + 1
    assert collects == [True, is_on, is_on]
    assert gc.isenabled()


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[int, int]]]:
    """What every bar was told, by its name and unit."""
    seen: dict[str, list[tuple[int, int]]] = {}

    @contextmanager
    def recording(what: str, unit: str) -> Iterator[Progress]:
        told = seen.setdefault(f"{what} ({unit})", [])
        yield lambda done, total: told.append((done, total))

    monkeypatch.setattr(watching, "_shown_by", [recording])
    return seen


@pytest.mark.parametrize("slow_look_s", [1.0, 0.0])
def test_a_listing_tells_its_bar_how_many_checkpoints_it_has_seen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bars: dict[str, list[tuple[int, int]]],
    slow_look_s: float,
) -> None:
    for number in range(20):
        write_checkpoint(tmp_path / "run", number)
    monkeypatch.setattr(catalog, "SLOW_LOOK_S", slow_look_s)
    scan(tmp_path / "run")
    told = bars[f"listing {tmp_path / 'run'} (checkpoints)"]
    assert told[0] == (8, 20)
    assert told == sorted(told)
    assert told[-1] == (20, 20)


def test_a_search_is_one_bar_over_the_listings_of_its_roots(
    tmp_path: Path, bars: dict[str, list[tuple[int, int]]]
) -> None:
    write_checkpoint(tmp_path / "a", 1)
    write_checkpoint(tmp_path / "b", 2)
    assert len(search(tmp_path)) == 2
    assert [name.partition(" ")[0] for name in bars] == ["searching", "listing", "listing"]


def test_a_slice_of_a_listing_keeps_what_is_broken_beside_it(tmp_path: Path) -> None:
    for number in range(5):
        write_checkpoint(tmp_path, number)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / layout.META).write_bytes(b"")
    listing = scan(tmp_path)
    assert [found.epoch for found in listing[:2]] == [4, 3]
    assert listing[0].epoch == 4
    assert [found.epoch for found in listing.filtered(max_epoch=1)] == [1, 0]
    for part in (listing[:2], listing.filtered(min_epoch=99)):
        assert isinstance(part, Listing)
        assert [broken.path.name for broken in part.broken] == ["bad"]


def test_listings_of_several_roots_merge_to_one_newest_first(tmp_path: Path) -> None:
    for number in range(4):
        write_checkpoint(tmp_path / ("even", "odd")[number % 2], number)
    merged = merge([scan(tmp_path / "even"), scan(tmp_path / "odd")])
    assert [(found.path.parent.name, found.epoch) for found in merged] == [
        ("odd", 3),
        ("even", 2),
        ("odd", 1),
        ("even", 0),
    ]


def test_what_several_listings_have_is_there_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_checkpoint(root, 1)
    (root / "broken").mkdir()
    (root / "broken" / layout.META).write_text("{")
    (root / "foreign").mkdir()
    (root / "old.pt").write_bytes(b"")
    (tmp_path / "link").symlink_to(root)
    merged = merge([scan(root), scan(tmp_path / "link"), scan(root / ".." / "root"), scan(root)])
    found = [merged.entries, merged.broken, merged.foreign, merged.legacy]
    assert [len(each) for each in found] == [1, 1, 1, 1]
    assert merged[0].parent == str(root)


def test_a_listing_answers_what_a_store_does(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        metrics = {"val_map": 1 / number}
        write_checkpoint(tmp_path, number, metrics=metrics, is_best=number == 2)
    listing = scan(tmp_path)
    found = [listing.best(), listing.best("val_map", "max"), listing.latest(), listing.by_epoch(2)]
    assert [each.epoch if each else None for each in found] == [2, 1, 3, 2]
    assert listing.by_epoch(9) is Listing().latest() is Listing().best() is None
