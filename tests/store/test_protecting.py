"""What is protected stays, for as long as it is protected."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import pins, publish
from smartcash_format.errors import (
    CheckpointNotFoundError,
    CheckpointWriteError,
    InvalidCheckpointError,
)
from smartcash_format.spec import layout
from smartcash_format.store import checkpoint_store
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.retention import KeepLast, KeepTagged
from tests.store.checkpoints import START, identifier, write_checkpoint

pytestmark = pytest.mark.usefixtures("noon")


def test_what_is_protected_survives_every_plan_until_it_is_unprotected(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path, number) for number in range(1, 4)]
    store = CheckpointStore(tmp_path)
    before = sorted(os.listdir(paths[0]))
    store.protect(paths[0].name, "table 2")
    assert sorted(os.listdir(paths[0])) == before
    assert store.plan(KeepLast(1)).decisions[0].reasons == ("protected: table 2",)
    store.apply(store.plan_cleanup(max_checkpoints=1))
    assert [found.epoch for found in store.list()] == [3, 1]
    store.unprotect(paths[0])
    store.apply(store.plan(KeepTagged("none")))
    assert [found.epoch for found in store.list()] == [3]


def test_a_cleanup_lifts_no_protection_that_has_not_ended(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path, number) for number in range(1, 4)]
    store = CheckpointStore(tmp_path)
    store.protect(paths[0], "for ever")
    store.protect(paths[1], "for a day", until=START + timedelta(days=1))
    before = store.protected()
    store.apply(store.plan(KeepLast(1)))
    assert store.protected() == before
    assert len(before) == 2


def test_protection_that_cannot_be_lifted_is_an_error_and_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path, 1)
    store = CheckpointStore(tmp_path)
    store.protect(path, "table 2")

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(pins, "remove_note", refuse)
    with pytest.raises(CheckpointWriteError, match="not unprotected: Permission denied"):
        store.unprotect(path)
    assert len(store.protected()) == 1


def test_a_reason_that_is_too_long_protects_nothing_and_says_how_long_it_may_be(
    tmp_path: Path,
) -> None:
    path = write_checkpoint(tmp_path, 1)
    store = CheckpointStore(tmp_path)
    with pytest.raises(ValueError, match="257 characters; at most 256") as caught:
        store.protect(path, "x" * 257)
    assert type(caught.value) is ValueError
    assert store.protected() == {}


def test_the_protection_of_a_broken_checkpoint_can_be_lifted(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    store = CheckpointStore(tmp_path)
    store.protect(path, "table 2")
    (path / "optimizer.pt").unlink()
    store.unprotect(path)
    assert store.protected() == {}


def test_what_goes_while_it_is_protected_is_not_called_protected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path, 1)
    store = CheckpointStore(tmp_path)
    honest = pins.write_pin

    def late(*args: Any) -> None:
        publish.remove(path)
        honest(*args)

    monkeypatch.setattr(pins, "write_pin", late)
    with pytest.raises(CheckpointNotFoundError, match="removed this moment"):
        store.protect(path, "table 2")
    assert store.protected() == {}


def test_protecting_what_is_not_there_or_broken_is_an_error(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    with pytest.raises(CheckpointNotFoundError, match="no such checkpoint"):
        store.protect("nothing", "why")
    path = write_checkpoint(tmp_path, 1)
    (path / "optimizer.pt").unlink()
    with pytest.raises(InvalidCheckpointError, match=r"optimizer\.pt"):
        store.protect(path, "why")
    assert not (tmp_path / layout.PINS).exists()


def test_protection_with_an_end_is_over_when_it_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path, 1)
    store = CheckpointStore(tmp_path)
    end: datetime = START + timedelta(hours=2)
    store.protect(path, "being read", until=end)
    assert list(store.protected()) == [identifier(1)]
    monkeypatch.setattr(checkpoint_store, "_now", lambda: end)
    assert store.protected() == {}


def test_an_end_that_has_passed_protects_nothing_and_is_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    passed = datetime(2020, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match=r"until is 2020-01-01T00:00:00.*, which has passed"):
        CheckpointStore(tmp_path).protect(path, "why", passed)
    assert not (tmp_path / layout.PINS).exists()


def test_where_it_cannot_be_told_what_is_protected_nothing_is_planned(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path, number) for number in (1, 2)]
    (tmp_path / layout.PINS).touch()
    store = CheckpointStore(tmp_path)
    said = r"nothing is removed from .*: what is protected there cannot be read"
    with pytest.raises(CheckpointWriteError, match=said) as no:
        store.plan(KeepLast(1))
    assert (no.value.errno, no.value.path) == (errno.ENOTDIR, tmp_path / layout.PINS)
    with pytest.raises(CheckpointWriteError, match=said):
        store.plan_cleanup(max_checkpoints=1)
    assert all(path.is_dir() for path in paths)
