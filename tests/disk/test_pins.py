"""Pins lie beside the checkpoints and are written whole or not at all."""

from __future__ import annotations

import errno
import os
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from smartcash_format.disk.pins import clear_ended, lift_pin, read_pins, write_pin
from smartcash_format.errors import CheckpointWriteError
from smartcash_format.spec import layout
from smartcash_format.spec.pin import Pin
from tests.store.checkpoints import START, identifier

ONE, TWO = identifier(1), identifier(2)


def test_a_root_without_pins_protects_nothing_and_stays_untouched(tmp_path: Path) -> None:
    assert read_pins(tmp_path, START) == {}
    lift_pin(tmp_path, ONE)
    assert list(tmp_path.iterdir()) == []


def test_a_pin_protects_until_it_is_lifted(tmp_path: Path) -> None:
    write_pin(tmp_path, ONE, Pin(reason="release"))
    write_pin(tmp_path, TWO, Pin(reason="draft"))
    write_pin(tmp_path, TWO, Pin(reason="paper"))
    assert read_pins(tmp_path, START) == {ONE: "protected: release", TWO: "protected: paper"}
    lift_pin(tmp_path, ONE)
    lift_pin(tmp_path, ONE)
    assert read_pins(tmp_path, START) == {TWO: "protected: paper"}


def test_a_pin_with_an_end_protects_before_it(tmp_path: Path) -> None:
    write_pin(tmp_path, ONE, Pin(reason="being read", until=START))
    assert read_pins(tmp_path, START - timedelta(microseconds=1)) != {}
    assert read_pins(tmp_path, START) == {}


def test_a_second_holder_of_a_checkpoint_protects_it_as_well(tmp_path: Path) -> None:
    write_pin(tmp_path, ONE, Pin(reason="over", until=START))
    (tmp_path / layout.PINS / f"{ONE}.reader.json").write_text('{"reason": "being read"}')
    assert read_pins(tmp_path, START) == {ONE: "protected: being read"}


def test_nothing_is_written_or_cleared_where_a_link_leads(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for each in (root, elsewhere):
        each.mkdir()
    ended = Pin(reason="read", until=START)
    write_pin(elsewhere, identifier(1), ended)
    before = sorted((elsewhere / layout.PINS).iterdir())
    (root / layout.PINS).symlink_to(elsewhere / layout.PINS)
    with pytest.raises(CheckpointWriteError, match="is a link"):
        write_pin(root, identifier(2), Pin(reason="release"))
    clear_ended(root, START + timedelta(days=1))
    assert sorted((elsewhere / layout.PINS).iterdir()) == before
    # What it says is heard: it removes nothing.
    assert identifier(1) in read_pins(root, START - timedelta(days=1))


def test_what_is_no_pin_is_passed_over_and_what_is_unreadable_protects(tmp_path: Path) -> None:
    directory = tmp_path / layout.PINS
    directory.mkdir()
    (directory / "README.md").write_text("no pin")
    (directory / layout.pin_file(ONE)).mkdir()
    (directory / layout.pin_file(TWO)).write_text("torn")
    assert set(read_pins(tmp_path, START)) == {ONE, TWO}


def test_a_pin_that_cannot_be_written_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pin(tmp_path, ONE, Pin(reason="first"))

    def full(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointWriteError, match="not protected: No space left") as raised:
        write_pin(tmp_path, ONE, Pin(reason="second"))
    assert raised.value.errno == errno.ENOSPC
    assert read_pins(tmp_path, START) == {ONE: "protected: first"}
    assert os.listdir(tmp_path / layout.PINS) == [layout.pin_file(ONE)]


def test_the_first_pin_of_a_root_survives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    honest = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        honest(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_pin(tmp_path, ONE, Pin(reason="release"))
    assert synced[-2:] == [tmp_path / layout.PINS, tmp_path]
