"""Two checkpoints are compared without opening their weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from smartcash_format.errors import CheckpointNotFoundError, InvalidCheckpointError
from smartcash_format.spec import layout
from smartcash_format.store.compare import diff
from smartcash_format.testing.sample import write_sample
from tests.opened import opened_files


def test_two_saves_differ_in_their_tensors_and_no_weights_are_opened(tmp_path: Path) -> None:
    before, after = (write_sample(tmp_path, epoch=epoch) for epoch in (1, 2))
    with opened_files() as opened:
        found = diff(before, after)
    assert found.same_weights == "different"
    assert len(found.weights[0].changed) == 3
    names = {Path(name).name for name in opened}
    assert names <= {before.name, after.name, layout.META, layout.TENSORS}
    assert layout.TENSORS in names


def test_a_copy_does_not_differ(tmp_path: Path) -> None:
    path = write_sample(tmp_path, epoch=1)
    shutil.copytree(path, tmp_path / "copy")
    assert not diff(path, tmp_path / "copy").differs


def test_a_manifest_that_is_missing_or_was_changed_is_no_ground_for_a_comparison(
    tmp_path: Path,
) -> None:
    path, other = write_sample(tmp_path, epoch=1), write_sample(tmp_path, epoch=2)
    manifest = path / layout.TENSORS
    data = manifest.read_bytes()
    manifest.write_bytes(data.replace(b"stem.weight", b"stem.weighs"))
    with pytest.raises(InvalidCheckpointError, match="digest-mismatch"):
        diff(path, other)
    manifest.unlink()
    with pytest.raises(InvalidCheckpointError, match="file-missing"):
        diff(other, path)
    with pytest.raises(CheckpointNotFoundError):
        diff(other, tmp_path / "nothing")
