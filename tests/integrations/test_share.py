"""A checkpoint leaves the house without what tells on people, and comes in when it is intact."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from smartcash_format.disk import transfer
from smartcash_format.disk.derive import derive
from smartcash_format.disk.observe import validate
from smartcash_format.disk.read import Opened, read_meta
from smartcash_format.errors import (
    CheckpointExistsError,
    CheckpointNotFoundError,
    CheckpointWriteError,
    InvalidCheckpointError,
    SignatureError,
)
from smartcash_format.integrations import share as module
from smartcash_format.integrations.share import receive, share
from smartcash_format.manager.functions import save_checkpoint
from smartcash_format.spec.digest import digest_of
from smartcash_format.spec.meta import encode_meta
from smartcash_format.spec.problems import Depth
from smartcash_format.store.catalog import scan
from smartcash_format.store.history import read_history
from smartcash_format.testing.sample import write_sample
from smartcash_format.torch_io.load import load_checkpoint
from tests.processes import run_python

_SAID: dict[str, Any] = {
    "config": {"data": "/srv/someone/rupiah.yaml", "lr": 0.1},
    "notes": {"argv": ["train.py", "--lr", "0.1"], "host": "gpu-box-7"},
}


def _checkpoint(root: Path, epoch: int = 3, **said: Any) -> Path:
    """A checkpoint with an optimizer, whose metadata says this."""
    plain = write_sample(root / "plain", epoch=epoch)
    made = derive(
        plain,
        root / "made",
        checkpoint_id=str(uuid4()),
        resume_state=True,
        change=lambda meta: meta.model_copy(update=said or _SAID),
    )
    return made.path


def test_weights_and_metadata_go_and_the_resume_state_stays(tmp_path: Path) -> None:
    source = _checkpoint(tmp_path)
    done = share(source, tmp_path / "out", names=())
    meta, original = read_meta(done.path), read_meta(source)
    assert validate(done.path, Depth.CONTENT).problems == ()
    assert sorted(os.listdir(tmp_path / "out")) == ["README.md", done.path.name]
    assert sorted(meta.files) == ["model.safetensors", "tensors.json"]
    assert done.left_out == ("optimizer.pt",)
    assert meta.derived_from == original.checkpoint_id
    assert meta.checkpoint_id != original.checkpoint_id
    assert (meta.epoch, meta.saved_at, meta.optimizer) == (3, original.saved_at, None)
    assert meta.weights == original.weights
    assert read_meta(source) == original


def test_what_tells_is_listed_and_goes_when_asked(tmp_path: Path) -> None:
    source = _checkpoint(tmp_path)
    done = share(source, tmp_path / "kept", names=())
    wheres = {(found.where, found.kind) for found in done.findings}
    assert wheres == {
        ("config.data", "path"),
        ("notes.argv", "command line"),
        ("notes.host", "name"),
    }
    assert not done.removed
    assert read_meta(done.path).config == _SAID["config"]
    cleaned = share(source, tmp_path / "cleaned", clean=True, names=())
    assert cleaned.findings == done.findings
    assert cleaned.removed
    meta = read_meta(cleaned.path)
    assert meta.config == {"data": "<path>", "lr": 0.1}
    assert meta.notes == {"argv": "<command line>", "host": "<name>"}
    everything = b"".join(
        path.read_bytes() for path in (tmp_path / "cleaned").rglob("*") if path.is_file()
    )
    assert b"someone" not in everything
    assert b"gpu-box" not in everything


def test_the_own_user_and_host_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "someone")
    monkeypatch.setattr("socket.gethostname", lambda: "gpu-box-7.example.org")
    source = _checkpoint(tmp_path, notes={"by": "Someone", "on": "gpu-box-7"})
    found = share(source, tmp_path / "out").findings
    assert [each.where for each in found] == ["notes.by", "notes.on"]


def test_resume_state_goes_along_when_asked(tmp_path: Path) -> None:
    source = _checkpoint(tmp_path)
    done = share(source, tmp_path / "out", resume_state=True, names=())
    assert done.left_out == ()
    assert read_meta(done.path).optimizer == read_meta(source).optimizer


class _Counting(nn.Module):
    """A state of its own beside tensors, with a path in it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def get_extra_state(self) -> Any:
        return {"cache": "/srv/someone/cache"}

    def set_extra_state(self, state: Any) -> None:
        """Nothing is done with it."""


def test_what_lies_in_a_torch_file_is_listed_and_stays(tmp_path: Path) -> None:
    model = _Counting()
    source = tmp_path / "one"
    save_checkpoint(source, model, epoch=1)
    done = share(source, tmp_path / "out", clean=True, names=())
    assert "extra.pt" in read_meta(done.path).files
    assert [(found.kind, found.text) for found in done.kept] == [("path", "/srv/someone/cache")]
    load_checkpoint(done.path, model=_Counting())


def _with_metadata(path: Path, metadata: dict[str, str]) -> None:
    """Weights as another program writes them, listed with their new size and digest."""
    file = path / "model.safetensors"
    save_file(load_file(file), file, metadata=metadata)
    meta = read_meta(path)
    data = file.read_bytes()
    record = meta.files[file.name].model_copy(
        update={"size_bytes": len(data), "digest": digest_of(data)}
    )
    meta = meta.model_copy(update={"files": {**meta.files, file.name: record}})
    (path / "meta.json").write_bytes(encode_meta(meta))


def test_what_another_program_wrote_into_a_header_is_listed_and_stays(tmp_path: Path) -> None:
    source = _checkpoint(tmp_path, config={})
    _with_metadata(source, {"format": "pt", "trained_by": "Someone", "argv": "/srv/me/train.py"})
    done = share(source, tmp_path / "out", clean=True, names=["someone"])
    assert {(found.where, found.kind) for found in done.kept} == {
        ("model.safetensors: __metadata__.trained_by", "name"),
        ("model.safetensors: __metadata__.argv", "command line"),
    }


def test_names_of_tensors_and_classes_are_listed_and_stay(tmp_path: Path) -> None:
    source = tmp_path / "one"
    model = nn.ModuleDict({"head_of_someone": nn.Linear(2, 2)})
    save_checkpoint(source, model, epoch=1)
    done = share(source, tmp_path / "out", names=["someone"])
    assert [found.where for found in done.kept] == [
        "model.safetensors: tensors.head_of_someone.bias (its name)",
        "model.safetensors: tensors.head_of_someone.weight (its name)",
    ]


class _Logged(torch.optim.lr_scheduler.LambdaLR):
    """A scheduler that keeps where it logs to."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.log = "/srv/someone/lr.csv"
        super().__init__(optimizer, lambda epoch: 1.0)


@pytest.mark.parametrize("resume_state", [True, False])
def test_what_an_optimizer_and_a_scheduler_keep_is_listed_where_they_come_along(
    tmp_path: Path, resume_state: bool
) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD([{"params": model.parameters(), "made_in": "/srv/someone"}], lr=0.1)
    save_checkpoint(tmp_path / "one", model, optimizer, _Logged(optimizer), epoch=1)
    done = share(
        tmp_path / "one", tmp_path / "out", resume_state=resume_state, clean=True, names=()
    )
    texts = {each.text for each in done.kept}
    assert texts == ({"/srv/someone", "/srv/someone/lr.csv"} if resume_state else set())
    files = {each.where.partition(".pt")[0] for each in done.kept}
    assert not resume_state or files >= {"optimizer", "scheduler"}


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    source = _checkpoint(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(CheckpointExistsError, match="not empty"):
        share(source, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["mine"]


def test_a_rotten_source_is_not_shared(tmp_path: Path) -> None:
    source = _checkpoint(tmp_path)
    _flip(source / "model.safetensors")
    with pytest.raises(InvalidCheckpointError, match="was not shared"):
        share(source, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_what_was_shared_is_received_and_received_once(tmp_path: Path) -> None:
    done = share(_checkpoint(tmp_path), tmp_path / "out", names=())
    root = tmp_path / "root"
    (received,) = receive(tmp_path / "out", root)
    assert received.path == root / done.path.name
    assert not received.already
    assert read_meta(received.path) == read_meta(done.path)
    assert os.listdir(root / received.path.name) == os.listdir(done.path)
    assert [line.checkpoint for line in read_history(root, ()).lines] == [received.path.name]
    (again,) = receive(done.path, root)
    assert (again.already, again.path) == (True, received.path)
    assert len(read_history(root, ()).lines) == 1


def test_one_that_has_rotted_since_it_was_received_is_received_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SMALL_BYTES", 0)  # as if it were a large one
    share(_checkpoint(tmp_path), tmp_path / "out", names=())
    root = tmp_path / "root"
    (first,) = receive(tmp_path / "out", root)
    _flip(first.path / "model.safetensors")
    for already in (False, True):
        (again,) = receive(tmp_path / "out", root)
        assert again.already is already
        assert again.path != first.path
        assert validate(again.path, Depth.CONTENT).valid


@pytest.mark.attack("move", "a received checkpoint that is not what it says", "never visible")
def test_a_checkpoint_that_is_not_what_it_says_is_never_visible(tmp_path: Path) -> None:
    for epoch in (1, 2):
        share(_checkpoint(tmp_path / f"{epoch}", epoch), tmp_path / f"out{epoch}", names=())
    both = tmp_path / "both"
    for epoch in (1, 2):
        shutil.copytree(tmp_path / f"out{epoch}", both, dirs_exist_ok=True)
    first, second = sorted(entry.path for entry in scan(both))
    (second / "added.pt").write_bytes(b"is never opened")
    receive(both, tmp_path / "whole")
    _flip(second / "model.safetensors")
    with pytest.raises(InvalidCheckpointError, match="digest-mismatch") as refused:
        receive(both, tmp_path / "root")
    assert refused.value.path == second
    assert [entry.name for entry in scan(tmp_path / "root")] == [first.name]
    names = {name for name in os.listdir(tmp_path / "root") if not name.startswith("training")}
    assert names == {first.name}
    assert not (tmp_path / "whole" / second.name / "added.pt").exists()


@pytest.mark.attack("move", "a breach behind sound digests", "never visible")
def test_what_a_digest_cannot_tell_is_seen_before_it_is_visible(tmp_path: Path) -> None:
    """meta.json names the bytes of the file, and tensors.json others."""
    from smartcash_format.spec.digest import digest_of
    from smartcash_format.spec.meta import FileRecord, encode_meta

    done = share(_checkpoint(tmp_path), tmp_path / "out", names=())
    _flip(done.path / "model.safetensors")
    data = (done.path / "model.safetensors").read_bytes()
    meta = read_meta(done.path)
    record = FileRecord(role="weights", size_bytes=len(data), digest=digest_of(data))
    forged = meta.model_copy(update={"files": {**meta.files, "model.safetensors": record}})
    (done.path / "meta.json").write_bytes(encode_meta(forged))
    with pytest.raises(InvalidCheckpointError, match="was not received"):
        receive(tmp_path / "out", tmp_path / "root")
    assert len(scan(tmp_path / "root")) == 0


def test_a_directory_without_checkpoints_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="has no checkpoint"):
        receive(tmp_path, tmp_path / "root")


def test_neither_needs_torch() -> None:
    loaded = run_python(
        "import sys, smartcash_format as p; p.share; p.receive; print(*sys.modules)"
    )
    assert "smartcash_format.integrations.share" in loaded.split()
    assert "torch" not in loaded.split()


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_one_text_is_no_list_of_names(tmp_path: Path) -> None:
    source = _checkpoint(tmp_path)
    with pytest.raises(TypeError, match=r"pass \['someone'\]"):
        share(source, tmp_path / "out", clean=True, names="someone")
    assert not (tmp_path / "out").exists()


def test_places_that_are_no_directory_are_errors_of_ours(tmp_path: Path) -> None:
    source = _checkpoint(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointExistsError, match="file is no directory; nothing was written"):
        share(source, tmp_path / "file")
    with pytest.raises(CheckpointWriteError, match="file was not written to: Not a directory"):
        receive(source, tmp_path / "file")


@pytest.mark.parametrize("name", ["model.safetensors", "tensors.json"])
def test_a_source_that_cannot_be_read_is_not_called_a_target_that_cannot_be_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _checkpoint(tmp_path)
    way = "read" if name == "tensors.json" else "raw"
    reading = getattr(Opened, way)

    def refuse(self: Opened, file: str, *how: Any) -> Any:
        if file == name and self.path == source:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return reading(self, file, *how)

    monkeypatch.setattr(Opened, way, refuse)
    with pytest.raises(InvalidCheckpointError, match=f"{name}: cannot be read: Permission denied"):
        share(source, tmp_path / "out")


def test_a_signature_that_was_left_behind_comes_with_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _checkpoint(tmp_path)
    signature = source.with_name(f"{source.name}.sig")

    def holds(path: Path, signed_by: object, **how: object) -> None:
        if not signature.exists():
            raise SignatureError(f"{path.name} is not signed as asked", path=path)

    monkeypatch.setattr(module, "verify_signature", holds)
    with pytest.raises(SignatureError, match=f"^{source.name} is not signed as asked") as refused:
        receive(source, tmp_path / "root", signed_by="team.pub")
    assert refused.value.path == source
    signature.write_bytes(b"signed")
    receive(source, tmp_path / "root")  # without asking whose it is: none comes along
    assert not (tmp_path / "root" / signature.name).exists()
    (again,) = receive(source, tmp_path / "root", signed_by="team.pub")
    assert again.already
    assert (tmp_path / "root" / signature.name).read_bytes() == b"signed"
