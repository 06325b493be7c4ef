"""The order of a commit, call by call, and what a failed fsync leads to."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from smartcash_format.disk.transfer import transfer
from smartcash_format.errors import CheckpointWriteError
from smartcash_format.testing.faults import Layer
from smartcash_format.testing.points import Fault, Point
from smartcash_format.testing.promise import is_whole, visible
from smartcash_format.testing.sample import write_sample

FAILS_ONCE = Fault(effect="fail", errno=errno.EIO)


def save(root: Path) -> None:
    write_sample(root, epoch=2)


def copy(root: Path) -> None:
    source = root.with_name("elsewhere") / "epoch"
    if not source.parent.exists():
        write_sample(source.parent, epoch=2)
    transfer(list(source.parent.iterdir()), root)


COMMITS = pytest.mark.parametrize("commit", [save, copy])


def calls_of(commit: Callable[[Path], None], place: Path) -> list[Point]:
    with Layer(place / "first") as layer:
        commit(place / "first")
    return layer.points


@COMMITS
def test_meta_json_is_last_in_the_stage_and_all_is_synced_before_the_rename(
    tmp_path: Path, commit: Callable[[Path], None]
) -> None:
    points = calls_of(commit, tmp_path)
    meta, publish = ".staging/meta.json", points.index(Point("rename", ".staging"))
    files = {p.path for p in points if p.op == "create" and p.path.startswith(".staging/")}
    files.discard(meta)
    assert len(files) == 3
    begun = points.index(Point("create", meta))
    for file in files:
        written = [
            i for i, p in enumerate(points) if p.path == file and p.op in ("create", "write")
        ]
        assert max(written) < begun
    for path in (*files, meta):
        synced = points.index(Point("fsync", path))
        written = [i for i, p in enumerate(points) if p.path == path and p.op == "write"]
        assert max(written) < synced < publish
    stage_synced = points.index(Point("fsync", ".staging"))
    assert points.index(Point("fsync", meta)) < stage_synced < publish
    assert any(p.op == "fsync" and p.path == "." for p in points[publish:])


@COMMITS
def test_an_fsync_that_fails_once_is_not_tried_again_and_the_next_save_writes_anew(
    tmp_path: Path, commit: Callable[[Path], None]
) -> None:
    failing = [p for p in calls_of(commit, tmp_path) if p.op == "fsync" and "staging" in p.path]
    assert len(failing) == 5  # four files and their directory
    root = tmp_path / "root"
    first = write_sample(root, epoch=1)
    for point in failing:
        with Layer(root, at=point, fault=FAILS_ONCE) as layer, pytest.raises(CheckpointWriteError):
            commit(root)
        assert [p.nth for p in layer.points if (p.op, p.path) == ("fsync", point.path)] == [1]
        assert Point("rename", ".staging") not in layer.points
        assert visible(root) == [first]
    with Layer(root) as layer:
        commit(root)
    created = {p.path for p in layer.points if p.op == "create"}
    assert created >= {point.path for point in failing if point.path != ".staging"}
    assert len(visible(root)) == 2
    assert all(map(is_whole, visible(root)))
