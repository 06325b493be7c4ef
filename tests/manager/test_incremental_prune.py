"""A chain of incremental saves is pruned on each kind of mount: what stays is whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smartcash_format.disk.observe import validate
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.spec.problems import Depth
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.retention import DropResumeState, KeepLast
from smartcash_format.testing.faults import Layer
from smartcash_format.testing.points import DRIVE, LOCAL, MOUNTS, Mount
from tests.manager.test_incremental import frozen_training
from tests.manager.training import Training, manager

pytestmark = [pytest.mark.torch, pytest.mark.no_cover]

EPOCHS = range(1, 6)


def save_chain(keeper: CheckpointManager, live: Training) -> list[str]:
    """How each epoch was saved: the names of the files that were linked."""
    saved = []
    for epoch in EPOCHS:
        live.step()
        saved += keeper.save_checkpoint(**live.live(), epoch=epoch)["linked"]
    return saved


def survivors(root: Path) -> dict[int, bool]:
    """The epochs that stand, oldest first, and whether each is whole at CONTENT."""
    listing = CheckpointStore(root).list()
    assert (listing.broken, listing.foreign) == ((), ())
    return {entry.epoch: validate(entry.path, Depth.CONTENT).valid for entry in reversed(listing)}


def links(root: Path) -> int:
    """How many names the file has that most names lead to."""
    return max(path.stat().st_nlink for path in root.rglob("*.safetensors"))


@pytest.mark.parametrize("mount", MOUNTS, ids=lambda mount: mount.name)
def test_a_chain_that_is_pruned_on_a_mount_leaves_every_survivor_whole(
    tmp_path: Path, mount: Mount
) -> None:
    root = tmp_path / "root"
    keeper, _ = manager(root, incremental=True)
    with Layer(root, mount=mount) as layer:
        linked = save_chain(keeper, frozen_training())
        assert survivors(root) == dict.fromkeys(EPOCHS, True)
        removed = keeper.cleanup_checkpoints(keep_best=False, max_epochs=2)
        assert survivors(root) == {4: True, 5: True}
        keeper.save_checkpoint(**frozen_training().live(), epoch=6)
    assert layer.unseen == []
    assert len(removed) == 3
    assert bool(linked) == mount.links
    assert survivors(root) == {4: True, 5: True, 6: True}


def test_a_chain_that_was_linked_locally_is_pruned_on_a_mount_without_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    keeper, _ = manager(root, incremental=True)
    assert save_chain(keeper, frozen_training())
    assert links(root) == len(EPOCHS)
    with Layer(root, mount=DRIVE) as layer:
        keeper.cleanup_checkpoints(keep_best=False, max_epochs=2)
    # What has one name is emptied first there: what has more must not be.
    truncated = {os.path.basename(event.path) for event in layer.events if event.op == "truncate"}
    assert "optimizer.pt" in truncated
    assert "model-00001-of-00002.safetensors" not in truncated
    assert survivors(root) == {4: True, 5: True}
    assert links(root) == 2


@pytest.mark.parametrize("mount", [LOCAL, DRIVE], ids=lambda mount: mount.name)
def test_a_chain_that_is_stripped_and_pruned_by_each_save_stays_whole(
    tmp_path: Path, mount: Mount
) -> None:
    root = tmp_path / "root"
    policy = KeepLast(3) | DropResumeState(older_than=1)
    keeper, _ = manager(root, incremental=True, keep=policy)
    with Layer(root, mount=mount):
        save_chain(keeper, frozen_training())
    assert survivors(root) == {3: True, 4: True, 5: True}
    kept = {entry.epoch: entry.has_optimizer for entry in CheckpointStore(root).list()}
    assert kept == {3: False, 4: False, 5: True}
