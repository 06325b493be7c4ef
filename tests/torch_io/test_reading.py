"""Loads where nothing can be mapped, and from files that somebody writes to meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from smartcash_format.disk import read
from smartcash_format.disk.positioned import read_chunks, read_into
from smartcash_format.errors import CheckpointError, InvalidCheckpointError
from smartcash_format.torch_io import load, parts
from smartcash_format.torch_io.load import load_checkpoint
from smartcash_format.torch_io.read_state import load_tensors
from tests.torch_io.handmade import saved_training
from tests.torch_io.same import assert_same, snapshot
from tests.torch_io.zoo import Training, stepped

pytestmark = pytest.mark.torch

NAMES = ("model.safetensors", "optimizer.pt")


@pytest.fixture
def saved() -> Training:
    return stepped("AdamW")


@pytest.fixture
def path(tmp_path: Path, saved: Training) -> Path:
    return saved_training(tmp_path, saved)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything lies on a network mount."""
    monkeypatch.setattr(read, "file_system", lambda device: "nfs4")


def zero(path: Path, *, is_hidden: bool = False) -> None:
    """Writes into a published file, in place: its bytes are gone, its size stays.

    Who hides it restores the time of writing.
    """
    for name in NAMES:
        facts = (path / name).stat()
        with open(path / name, "r+b") as file:
            file.write(bytes(facts.st_size))
        if is_hidden:
            os.utime(path / name, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def after(monkeypatch: pytest.MonkeyPatch, name: str, then: Callable[[], None]) -> None:
    """Has it happen when this method of Parts has returned for the first time."""
    real = getattr(parts.Parts, name)
    done: list[bool] = []

    def called(self: Any, *args: Any, **options: Any) -> Any:
        result = real(self, *args, **options)
        if not done:
            done.append(True)
            then()
        return result

    monkeypatch.setattr(parts.Parts, name, called)


@pytest.mark.usefixtures("network")
def test_what_was_verified_is_what_is_loaded_where_nothing_is_mapped(
    path: Path, saved: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(monkeypatch, "verify", lambda: zero(path))
    live = stepped("AdamW", steps=1)
    load_checkpoint(path, model=live.model, optimizer=live.optimizer)
    assert_same(live.model.state_dict(), saved.model.state_dict())
    assert_same(live.optimizer.state_dict(), saved.optimizer.state_dict())
    live.step()


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.usefixtures("network")
def test_nothing_is_read_twice_where_nothing_is_mapped(
    path: Path, monkeypatch: pytest.MonkeyPatch, verify: bool
) -> None:
    whole: list[int] = []
    real = read_chunks

    def counted(descriptor: int, size_bytes: int, **options: Any) -> Any:
        whole.append(os.fstat(descriptor).st_ino)
        return real(descriptor, size_bytes, **options)

    def refuse(*args: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(read, "read_chunks", counted)
    if verify:
        monkeypatch.setattr(read, "read_into", refuse)
    live = stepped("AdamW", steps=1)
    load_checkpoint(path, model=live.model, optimizer=live.optimizer, verify=verify)
    assert len(whole) == len(set(whole))


@pytest.mark.usefixtures("network")
def test_an_error_of_the_disk_changes_nothing_also_without_verifying(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rotten(*args: object, **options: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(read, "read_chunks", rotten)
    live = stepped("AdamW", steps=1)
    before = snapshot(live.model, live.optimizer)
    with pytest.raises(OSError, match="Input/output error"):
        load_checkpoint(path, model=live.model, optimizer=live.optimizer, verify=False)
    assert_same(snapshot(live.model, live.optimizer), before)


@pytest.mark.attack("load", "a file that is written to between hashing and use", "digest-mismatch")
def test_a_file_that_is_written_to_after_it_was_verified_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(monkeypatch, "verify", lambda: zero(path))
    live = stepped("AdamW", steps=1)
    before = snapshot(live.model, live.optimizer)
    with pytest.raises(InvalidCheckpointError, match="was written to while it was loaded"):
        load_checkpoint(path, model=live.model, optimizer=live.optimizer)
    assert_same(snapshot(live.model, live.optimizer), before)


def test_a_file_that_is_written_to_while_objects_are_filled_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(monkeypatch, "confirm", lambda: zero(path))
    live = stepped("AdamW", steps=1)
    with pytest.raises(CheckpointError, match="model, optimizer may have some") as caught:
        load_checkpoint(path, model=live.model, optimizer=live.optimizer)
    assert not isinstance(caught.value, InvalidCheckpointError)


@pytest.mark.attack(
    "load", "the same, the time of writing restored", "digest-mismatch: the file is hashed again"
)
def test_a_writer_who_restores_the_time_of_writing_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(monkeypatch, "verify", lambda: zero(path, is_hidden=True))
    live = stepped("AdamW", steps=1)
    before = snapshot(live.model, live.optimizer)
    with pytest.raises(InvalidCheckpointError) as caught:
        load_checkpoint(path, model=live.model, optimizer=live.optimizer)
    found = [(problem.code, problem.where) for problem in caught.value.problems]
    assert found == [("digest-mismatch", NAMES[0])]
    assert_same(snapshot(live.model, live.optimizer), before)


def test_a_writer_who_restores_the_time_of_writing_while_objects_are_filled_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(monkeypatch, "confirm", lambda: zero(path, is_hidden=True))
    live = stepped("AdamW", steps=1)
    with pytest.raises(CheckpointError, match="model, optimizer may have some"):
        load_checkpoint(path, model=live.model, optimizer=live.optimizer)


def test_a_link_that_a_save_makes_meanwhile_is_no_writing(
    path: Path, saved: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(monkeypatch, "verify", lambda: os.link(path / NAMES[0], tmp_path / "linked"))
    live = stepped("AdamW", steps=1)
    load_checkpoint(path, model=live.model)
    assert_same(live.model.state_dict(), saved.model.state_dict())


@pytest.mark.parametrize("kind", ["ext4", "nfs4"])
def test_single_tensors_are_read_alone(
    path: Path, saved: Training, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(read, "file_system", lambda device: kind)
    ranges: list[int] = []
    real = read_into

    def counted(descriptor: int, target: memoryview, position: int) -> None:
        ranges.append(len(target))
        real(descriptor, target, position)

    monkeypatch.setattr(read, "read_into", counted)
    monkeypatch.setattr(read.Opened, "buffer", None)
    expected = {n: t for n, t in saved.model.state_dict().items() if n.endswith("bias")}
    found = load_tensors(path, "*bias")
    assert_same(found, expected)
    assert sum(ranges) == sum(tensor.nbytes for tensor in expected.values())


@pytest.mark.parametrize("kind", ["ext4", "nfs4"])
@pytest.mark.parametrize("is_hidden", [True, False])
def test_the_state_of_a_torch_file_is_the_memory_that_was_verified(
    path: Path, saved: Training, monkeypatch: pytest.MonkeyPatch, kind: str, is_hidden: bool
) -> None:
    monkeypatch.setattr(read, "file_system", lambda device: kind)
    result = load_checkpoint(path)
    after(monkeypatch, "verify", lambda: zero(path, is_hidden=is_hidden))
    assert_same(result["optimizer_state_dict"], saved.optimizer.state_dict())


@pytest.mark.attack(
    "load",
    "another optimizer between hashing and use, the time of writing restored",
    "no difference",
)
@pytest.mark.parametrize("kind", ["ext4", "nfs4"])
def test_an_optimizer_gets_the_memory_that_was_verified(
    path: Path, saved: Training, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(read, "file_system", lambda device: kind)
    live = stepped("AdamW", steps=1)
    after(monkeypatch, "verify", lambda: zero(path, is_hidden=True))
    load_checkpoint(path, model=None, optimizer=live.optimizer, components={"optimizer"})
    assert_same(live.optimizer.state_dict(), saved.optimizer.state_dict())


def test_the_tensors_of_a_state_dict_are_the_memory_that_was_verified(
    path: Path, saved: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = load_checkpoint(path)
    real = parts._made

    def made(*args: Any) -> torch.Tensor:
        zero(path, is_hidden=True)
        return real(*args)

    monkeypatch.setattr(parts, "_made", made)
    assert_same(dict(result["model_state_dict"]), dict(saved.model.state_dict()))


@pytest.mark.attack(
    "load",
    "another header, manifest or program while it is parsed than while it is hashed",
    "digest-mismatch",
)
@pytest.mark.parametrize("name", [*NAMES, "tensors.json"])
def test_what_was_parsed_is_compared_with_what_was_hashed(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Another file stands there while it is parsed, and the right one again while it is hashed."""
    right = (path / name).read_bytes()
    facts = (path / name).stat()
    # A file that is sound too: two parameters or two tensors that change places, another filling.
    changed = {
        "tensors.json": {b'["a","b",': b'["b","a",'},
        NAMES[0]: {b'"a":{': b'"x":{', b'"b":{': b'"a":{', b'"x":{': b'"b":{'},
        NAMES[1]: {b"ZZZZZ": b"YZZZZ"},
    }[name]
    wrong = right
    for old, new in changed.items():
        wrong = wrong.replace(old, new, 1)
    assert wrong != right
    with open(path / name, "r+b") as file:
        file.write(wrong)

    def restore() -> None:
        with open(path / name, "r+b") as file:
            file.write(right)
        os.utime(path / name, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    after(monkeypatch, "__init__", restore)
    live = stepped("AdamW", steps=1)
    before = snapshot(live.model, live.optimizer)
    with pytest.raises(InvalidCheckpointError, match="was written to while it was loaded") as error:
        load_checkpoint(path, model=live.model, optimizer=live.optimizer)
    assert [problem.where for problem in error.value.problems] == [name]
    assert_same(snapshot(live.model, live.optimizer), before)


@pytest.mark.attack(
    "load",
    "other weights between hashing and use, the time of writing restored, with `signed_by=`",
    "no difference",
)
def test_who_asks_for_a_signature_gets_the_memory_that_was_hashed(
    path: Path, saved: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "require_signed", lambda opened, signed_by: None)
    after(monkeypatch, "verify", lambda: zero(path, is_hidden=True))
    live = stepped("AdamW", steps=1)
    load_checkpoint(path, model=live.model, optimizer=live.optimizer, signed_by="team.pub")
    assert_same(live.model.state_dict(), saved.model.state_dict())
    assert_same(live.optimizer.state_dict(), saved.optimizer.state_dict())
