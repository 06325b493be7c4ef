"""A stripped checkpoint is published before its original goes, and has all that is not dropped."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import derive
from smartcash_format.disk import strip as strip_module
from smartcash_format.disk.observe import validate
from smartcash_format.disk.parts import ArchivePart
from smartcash_format.disk.publish import Stage
from smartcash_format.disk.read import read_meta
from smartcash_format.disk.strip import strip, stripped_id
from smartcash_format.disk.write import write_parts
from smartcash_format.errors import (
    CheckpointExistsError,
    CheckpointNotFoundError,
    CheckpointWriteError,
    InvalidCheckpointError,
)
from smartcash_format.spec import layout
from smartcash_format.spec.digest import seal
from smartcash_format.spec.meta import FileRecord, encode_meta
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.tensors import parse_tensors
from smartcash_format.testing.sample import write_sample


def with_extra(path: Path, content: dict[str, Any]) -> None:
    """Gives a checkpoint an extra.pt with this content."""
    part = ArchivePart(name=layout.EXTRA, program=pickle.dumps(content, protocol=2), storages=())
    (written,) = write_parts(Stage(path, path), [part])
    meta = read_meta(path)
    record = FileRecord(role="extra", size_bytes=written.size_bytes, digest=written.digest)
    changes = {"files": {**meta.files, layout.EXTRA: record}, "rng": True}
    (path / layout.META).write_bytes(encode_meta(meta.model_copy(update=changes)))
    assert validate(path, Depth.CONTENT).problems == ()


def test_a_stripped_checkpoint_stands_in_the_place_of_its_original(tmp_path: Path) -> None:
    original = write_sample(tmp_path, epoch=7)
    before = read_meta(original)
    size = (original / layout.OPTIMIZER).stat().st_size
    stripped = strip(original)
    assert os.listdir(tmp_path) == [stripped.path.name]
    new_id = stripped_id(before.checkpoint_id)
    assert stripped.path.name == f"epoch-0007-{new_id[:8]}"
    assert validate(stripped.path, Depth.CONTENT).problems == ()
    after = read_meta(stripped.path)
    assert (after.checkpoint_id, after.derived_from) == (new_id, before.checkpoint_id)
    same = ["run_id", "parent_id", "saved_at", "epoch", "step", "metrics", "is_best", "weights"]
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    assert after.optimizer is None
    assert after.scheduler is None
    assert layout.OPTIMIZER not in after.files
    assert stripped.freed_bytes >= size


def test_the_manifest_no_longer_names_the_parameters_of_the_optimizer(tmp_path: Path) -> None:
    stripped = strip(write_sample(tmp_path, epoch=7))
    tensors, _ = parse_tensors((stripped.path / layout.TENSORS).read_bytes())
    assert tensors is not None
    assert tensors.optimizer_groups == {}
    assert len(tensors.weights["model"].tensors) == 3


@pytest.mark.parametrize("refusal", [None, errno.EPERM, errno.EMLINK])
def test_weights_are_linked_where_the_mount_can_and_copied_where_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int | None
) -> None:
    original = write_sample(tmp_path, epoch=7)
    weights = (original / "model.safetensors").stat()
    data = (original / "model.safetensors").read_bytes()

    def refuse(*paths: object, **options: object) -> None:
        raise OSError(refusal, "no links here")

    if refusal is not None:
        monkeypatch.setattr(os, "link", refuse)
    before = sum(file.stat().st_size for file in original.iterdir())
    stripped = strip(original)
    path = stripped.path
    assert stripped.freed_bytes == before - sum(file.stat().st_size for file in path.iterdir())
    assert ((path / "model.safetensors").stat().st_ino == weights.st_ino) is (refusal is None)
    assert (path / "model.safetensors").read_bytes() == data


def test_parts_that_somebody_deleted_by_hand_are_not_missed(tmp_path: Path) -> None:
    original = write_sample(tmp_path, epoch=7)
    (original / layout.OPTIMIZER).unlink()
    assert not validate(original, Depth.META).valid
    path = strip(original).path
    assert validate(path, Depth.CONTENT).problems == ()
    assert os.listdir(tmp_path) == [path.name]


def test_a_checkpoint_with_nothing_to_drop_is_left_as_it_is(tmp_path: Path) -> None:
    once = strip(write_sample(tmp_path, epoch=7))
    again = strip(once.path)
    assert again == replace(once, freed_bytes=0)


def test_random_number_state_goes(tmp_path: Path) -> None:
    original = write_sample(tmp_path, epoch=7)
    with_extra(original, {"rng": {}})
    meta = read_meta(strip(original).path)
    assert layout.EXTRA not in meta.files
    assert not meta.rng


def test_state_of_the_models_own_modules_stays(tmp_path: Path) -> None:
    original = write_sample(tmp_path, epoch=7)
    with_extra(original, {"rng": {}, "modules": {"model": {"head": 1}}})
    path = strip(original).path
    meta = read_meta(path)
    assert layout.EXTRA in meta.files
    assert meta.rng
    assert layout.OPTIMIZER not in meta.files
    assert validate(path, Depth.CONTENT).problems == ()


def test_an_original_whose_weights_are_not_whole_stays(tmp_path: Path) -> None:
    original = write_sample(tmp_path, epoch=7)
    names = sorted(os.listdir(original))
    os.truncate(original / "model.safetensors", 10)
    with pytest.raises(InvalidCheckpointError, match=r"not stripped(.|\n)*model\.safetensors"):
        strip(original)
    assert sorted(os.listdir(original)) == names
    assert os.listdir(tmp_path) == [original.name]


def test_a_header_that_no_longer_fits_is_found_before_anything_is_published(tmp_path: Path) -> None:
    original = write_sample(tmp_path, epoch=7)
    size = (original / "model.safetensors").stat().st_size
    (original / "model.safetensors").write_bytes(b"\0" * size)
    with pytest.raises(InvalidCheckpointError, match="json-syntax"):
        strip(original)
    assert os.listdir(tmp_path) == [original.name]


def test_a_listed_name_that_leaves_the_directory_is_refused(tmp_path: Path) -> None:
    original = write_sample(tmp_path / "root", epoch=7)
    (tmp_path / "secret").write_bytes(b"x")
    document = json.loads((original / layout.META).read_bytes())
    document["files"]["../../secret"] = {
        "role": "aux", "size_bytes": 1, "digest": "blake3:" + "0" * 64,
    }  # fmt: skip
    (original / layout.META).write_bytes(seal(document))
    with pytest.raises(InvalidCheckpointError, match="file-name"):
        strip(original)
    assert sorted(os.listdir(tmp_path)) == ["root", "secret"]


def test_the_original_goes_after_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = write_sample(tmp_path, epoch=7)
    seen: list[list[str]] = []

    def watch(path: Path, **options: object) -> int:
        seen.append(sorted(os.listdir(tmp_path)))
        return 0

    monkeypatch.setattr(strip_module, "remove", watch)
    path = strip(original).path
    assert seen == [sorted([original.name, path.name])]
    assert validate(path, Depth.CONTENT).valid


def test_what_is_not_there_cannot_be_stripped(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError):
        strip(tmp_path / "nothing")


def test_what_another_removes_while_it_is_stripped_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sample(tmp_path, epoch=1)
    honest = derive.require_whole

    def late(*args: Any) -> None:
        shutil.rmtree(path)
        honest(*args)

    monkeypatch.setattr(strip_module, "require_whole", late)
    with pytest.raises(CheckpointNotFoundError, match="removed this moment"):
        strip(path)
    assert os.listdir(tmp_path) == []


def test_an_original_that_was_protected_meanwhile_stays_and_stays_alone(tmp_path: Path) -> None:
    original = write_sample(tmp_path, epoch=7)
    protected = read_meta(original).checkpoint_id
    with pytest.raises(CheckpointWriteError, match="protected this moment"):
        strip(original, unless=lambda checkpoint_id: checkpoint_id == protected)
    assert os.listdir(tmp_path) == [original.name]
    assert validate(original, Depth.CONTENT).valid


def test_the_new_one_stays_where_somebody_else_protects_it(tmp_path: Path) -> None:
    original = write_sample(tmp_path, epoch=7)
    with pytest.raises(CheckpointWriteError):
        strip(original, unless=lambda checkpoint_id: True)
    assert len(os.listdir(tmp_path)) == 2


def test_one_that_was_killed_before_the_original_was_gone_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = write_sample(tmp_path, epoch=7)

    def kill(path: Path, **options: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(strip_module, "remove", kill)
        with pytest.raises(KeyboardInterrupt):
            strip(original)
    assert len(os.listdir(tmp_path)) == 2
    stripped = strip(original)
    assert stripped.freed_bytes > 0
    assert os.listdir(tmp_path) == [stripped.path.name]


@pytest.mark.parametrize("moment", ["before", "while it is read", "before the original goes"])
def test_of_two_that_strip_one_both_have_done_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    original = write_sample(tmp_path, epoch=7)
    name = {
        "before": "require_whole",
        "while it is read": "manifest_part",
        "before the original goes": "remove",
    }[moment]
    honest = getattr(strip_module, name)
    others = []

    def other_first(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(strip_module, name, honest)
        others.append(strip(original))
        return honest(*args, **options)

    monkeypatch.setattr(strip_module, name, other_first)
    mine = strip(original)
    assert (mine.path, mine.checkpoint_id) == (others[0].path, others[0].checkpoint_id)
    assert os.listdir(tmp_path) == [mine.path.name]
    assert validate(mine.path, Depth.CONTENT).valid


def test_of_two_that_disagree_whether_it_is_protected_none_loses_it(tmp_path: Path) -> None:
    """One sees the pin and drops the new one, the other does not and removes the original."""
    original = write_sample(tmp_path, epoch=7)
    kept = read_meta(original).checkpoint_id

    def other_meanwhile(checkpoint_id: str) -> bool:
        if checkpoint_id == kept and not original.exists():  # ours is in the trash just now
            with contextlib.suppress(CheckpointNotFoundError):
                strip(original)
        return checkpoint_id == kept

    with pytest.raises(CheckpointWriteError):
        strip(original, unless=other_meanwhile)
    assert any(validate(path, Depth.CONTENT).valid for path in tmp_path.iterdir())


def test_what_has_the_name_of_the_new_one_and_is_not_it_is_left(tmp_path: Path) -> None:
    original = write_sample(tmp_path, epoch=7)
    aside = tmp_path / "aside"
    shutil.copytree(original, aside / original.name)
    taken = tmp_path / strip(aside / original.name).path.name
    taken.mkdir()
    with pytest.raises(CheckpointExistsError):
        strip(original)
    assert validate(original, Depth.CONTENT).valid
    assert os.listdir(taken) == []
