"""A root that a save makes: whatever cuts the power, what was reported as saved is there.

The directories above the root are part of what is replayed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from smartcash_format.disk import durable
from smartcash_format.testing import power
from smartcash_format.testing.faults import Layer
from smartcash_format.testing.points import Event
from smartcash_format.testing.promise import is_whole
from smartcash_format.testing.sample import write_sample

WHERE = "runs/one"


def nobody(place: Path) -> None:
    """The save makes all of it."""


def killed_after_the_first(place: Path) -> None:
    os.mkdir(place / "runs")


def killed_after_the_second(place: Path) -> None:
    os.mkdir(place / "runs")
    durable.sync_directory(place)
    os.mkdir(place / "runs" / "one")


def killed_in_its_save(place: Path) -> None:
    killed_after_the_second(place)
    os.mkdir(place / "runs" / "one" / ".staging-1-dead")


BEFORE = (nobody, killed_after_the_first, killed_after_the_second, killed_in_its_save)


def events_of(before: Callable[[Path], None], place: Path) -> tuple[list[Event], Path]:
    """What a first process did before it was killed, and then a save that returned."""
    with Layer(place) as layer:
        before(place)
        saved = write_sample(place / WHERE, epoch=1)
    return layer.events, saved.relative_to(place)


@pytest.mark.parametrize("before", BEFORE)
def test_a_save_that_returned_is_there_whoever_made_its_root(
    before: Callable[[Path], None], tmp_path: Path
) -> None:
    place, empty, after = (tmp_path / name for name in ("place", "empty", "after"))
    place.mkdir()
    empty.mkdir()
    events, saved = events_of(before, place)
    looked = 0
    for state in power.states(empty, events, draws=5):
        if state.calls == len(events):
            target = after / str(looked)
            target.parent.mkdir(exist_ok=True)
            power.make(state.tree, target)
            assert is_whole(target / saved)
            looked += 1
    assert looked > 2


def test_a_root_with_a_checkpoint_costs_no_fsync_of_what_it_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    write_sample(root, epoch=1)
    monkeypatch.setattr(durable, "sync_directory", None)
    durable.make_root(root)
