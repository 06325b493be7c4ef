"""Incremental saves: what did not change is linked, and each checkpoint is whole by itself."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.disk import sharing
from smartcash_format.disk.observe import observe, validate
from smartcash_format.disk.read import read_meta
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.manager.results import SaveResult
from smartcash_format.spec.problems import Depth
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.retention import KeepLast
from smartcash_format.testing.faults import Layer
from smartcash_format.torch_io.read_state import load_tensors
from tests.manager.training import Training, manager, said, same

pytestmark = pytest.mark.torch

INDEX = "model.safetensors.index.json"
FROZEN = "model-00001-of-00002.safetensors"
TRAINED = "model-00002-of-00002.safetensors"
WIDTH = 600


class Detector(nn.Module):
    """A frozen backbone of 1.4 MB with a batch norm that goes on counting, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, WIDTH), nn.Linear(WIDTH, WIDTH))
        self.norm = nn.BatchNorm1d(WIDTH)
        self.head = nn.Linear(WIDTH, 40)
        for part in (self.backbone, self.norm):
            part.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.norm(self.backbone(x)))
        return found


def frozen_training(seed: int = 0) -> Training:
    torch.manual_seed(seed)
    model = Detector()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    made = Training(model=model, optimizer=optimizer, scheduler=scheduler)
    made.step()
    return made


def save(made: CheckpointManager, live: Training, epoch: int, **options: Any) -> SaveResult:
    live.step()
    result = made.save_checkpoint(**live.live(), epoch=epoch, **options)
    if options.get("blocking", True):
        assert validate(result["path"], Depth.CONTENT).problems == ()
    return result


def inode(path: Path) -> int:
    return path.stat().st_ino


def weights_of(path: Path) -> set[str]:
    return {file.name for file in path.glob("*.safetensors")}


def test_what_is_frozen_lies_apart_from_the_first_save_on_and_is_linked_from_the_second(
    tmp_path: Path,
) -> None:
    made, log = manager(tmp_path, incremental=True)
    live = frozen_training()
    first, second, third = (save(made, live, epoch) for epoch in (1, 2, 3))
    assert [each["linked"] for each in (first, second, third)] == [(), (FROZEN,), (FROZEN,)]
    assert {inode(each["path"] / FROZEN) for each in (first, second, third)} == {
        inode(first["path"] / FROZEN)
    }
    assert len({inode(each["path"] / TRAINED) for each in (first, second, third)}) == 3
    assert weights_of(third["path"]) == {FROZEN, TRAINED}
    assert not said(log, "warning")
    assert "1.5 MB of them linked" in said(log, "info").splitlines()[-1]
    other = frozen_training(seed=9)
    made.load_checkpoint("latest", **other.live())
    assert same(other.state(), live.state())


def test_a_loader_of_hugging_face_reads_what_is_linked(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    made, _ = manager(tmp_path, incremental=True)
    live = frozen_training()
    save(made, live, 1)
    second = save(made, live, 2)
    assert second["linked"] == (FROZEN,)
    model = Detector()
    hub.load_torch_model(model, second["path"], strict=True, safe=True)
    assert same(model.state_dict(), live.model.state_dict())


def test_the_buffers_of_a_frozen_batch_norm_are_not_taken_for_frozen(tmp_path: Path) -> None:
    made, _ = manager(tmp_path, incremental=True)
    live = frozen_training()
    save(made, live, 1)
    path = save(made, live, 2)["path"]
    found = load_tensors(path, "norm.*")
    assert same(found, {k: v for k, v in live.model.state_dict().items() if k in found})
    assert "norm.running_mean" in (path / TRAINED).read_bytes()[:4_000].decode("latin-1")


def test_ten_epochs_of_a_frozen_backbone_write_little_more_than_what_changed(
    tmp_path: Path,
) -> None:
    made, _ = manager(tmp_path, incremental=True)
    live = frozen_training()
    before: dict[str, torch.Tensor] = {}
    changed = written = 0
    for epoch in range(1, 11):
        live.step()
        with Layer(tmp_path) as layer:
            made.save_checkpoint(**live.live(), epoch=epoch, rng=False)
        written += sum(len(event.data) for event in layer.events if event.op == "write")
        now = live.state()["model"]
        moments = live.optimizer.state_dict()["state"].values()
        changed += sum(v.nbytes for k, v in now.items() if not same(v, before.get(k)))
        changed += sum(value.nbytes for state in moments for value in state.values())
        before = now
    assert changed < written <= 1.1 * changed


def test_each_checkpoint_is_whole_by_itself_and_a_copy_is_full(tmp_path: Path) -> None:
    made, _ = manager(tmp_path / "root", incremental=True)
    live = frozen_training()
    paths = [save(made, live, epoch)["path"] for epoch in (1, 2, 3)]
    (copied,) = made.copy_to_drive(tmp_path / "copy", best_only=True)
    assert {file.stat().st_nlink for file in copied.iterdir()} == {1}
    for path in (paths[0], paths[2]):
        shutil.rmtree(path)
    for path in (paths[1], copied):
        assert validate(path, Depth.CONTENT).problems == ()
    other = frozen_training(seed=9)
    made.load_checkpoint(copied, **other.live())
    assert same(other.state(), live.state())


def test_plain_tensors_are_told_apart_by_what_did_not_change(tmp_path: Path) -> None:
    made, _ = manager(tmp_path, incremental=True)
    state = {"still": torch.zeros(600, 600), "moving": torch.zeros(8)}
    linked = []
    for epoch in range(1, 5):
        state["moving"] = state["moving"] + 1
        result = made.save_checkpoint(state, epoch=epoch)
        assert validate(result["path"], Depth.CONTENT).problems == ()
        linked.append(result["linked"])
        files = {FROZEN, TRAINED} if epoch > 1 else {"model.safetensors"}
        assert weights_of(result["path"]) == files
    assert linked == [(), (), (FROZEN,), (FROZEN,)]


def test_a_save_without_a_change_is_linked_whole(tmp_path: Path) -> None:
    made, _ = manager(tmp_path, incremental=True)
    model, teacher = nn.Linear(3, 3), nn.Linear(2, 2)
    made.save_checkpoint(model, epoch=1, extra={"teacher": teacher})
    with torch.no_grad():
        model.weight += 1
    result = made.save_checkpoint(model, epoch=2, extra={"teacher": teacher})
    assert result["linked"] == ("teacher.safetensors",)
    result = made.save_checkpoint(model, epoch=3, extra={"teacher": teacher})
    assert result["linked"] == ("teacher.safetensors",), "weights that changed last time"
    result = made.save_checkpoint(model, epoch=4, extra={"teacher": teacher})
    assert result["linked"] == ("model.safetensors", "teacher.safetensors")
    assert validate(result["path"], Depth.CONTENT).problems == ()


def test_what_thaws_is_written_and_linked_again_when_it_stands_still(tmp_path: Path) -> None:
    made, _ = manager(tmp_path, incremental=True)
    live = frozen_training()
    save(made, live, 1)
    assert save(made, live, 2)["linked"] == (FROZEN,)
    backbone = live.model.get_submodule("backbone").requires_grad_(True)
    live.optimizer.add_param_group({"params": list(backbone.parameters()), "initial_lr": 0.01})
    live.scheduler.base_lrs.append(0.01)
    for epoch in (3, 4):
        result = save(made, live, epoch)
        assert (result["linked"], weights_of(result["path"])) == ((), {"model.safetensors"})
    backbone.requires_grad_(False)
    live.optimizer.zero_grad()
    assert [save(made, live, epoch)["linked"] for epoch in (5, 6, 7)] == [(), (), (FROZEN,)]


def test_saves_in_the_background_are_linked_in_their_order(tmp_path: Path) -> None:
    made, _ = manager(tmp_path, incremental=True, keep=KeepLast(1))
    live = frozen_training()
    linked = []
    for epoch in range(1, 5):
        save(made, live, epoch, blocking=False)
        if epoch % 2 == 0:
            done = made.wait()
            assert done is not None
            linked.append(done["linked"])
    assert linked == [(FROZEN,)] * 2
    (entry,) = made.list_checkpoints()
    assert (entry / FROZEN).stat().st_nlink == 1
    assert validate(entry.path, Depth.CONTENT).problems == ()
    other = frozen_training(seed=9)
    made.load_checkpoint("latest", **other.live())
    assert same(other.state()["model"], live.state()["model"])


def test_a_resumed_run_links_to_what_it_finds(tmp_path: Path) -> None:
    first, _ = manager(tmp_path, incremental=True)
    live = frozen_training()
    save(first, live, 1)
    old = save(first, live, 2)["path"]
    resumed, _ = manager(tmp_path, incremental=True)
    other = frozen_training(seed=9)
    resumed.load_checkpoint("latest", **other.live())
    path = save(resumed, other, 3)["path"]
    assert inode(path / FROZEN) == inode(old / FROZEN)


def test_a_stripped_checkpoint_is_linked_to_like_any_other(tmp_path: Path) -> None:
    made, _ = manager(tmp_path, incremental=True)
    live = frozen_training()
    save(made, live, 1)
    shared = inode(save(made, live, 2)["path"] / FROZEN)
    store = CheckpointStore(tmp_path)
    paths = [store.strip(entry.path).path for entry in store.list()]
    result = save(made, live, 3)
    assert result["linked"] == (FROZEN,)
    assert {inode(path / FROZEN) for path in (*paths, result["path"])} == {shared}
    assert all(validate(path, Depth.CONTENT).valid for path in paths)


@pytest.mark.parametrize(
    "number", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EIO, errno.ENOENT]
)
def test_what_cannot_be_linked_is_written_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    made, _ = manager(tmp_path, incremental=True)
    live = frozen_training()
    first = save(made, live, 1)["path"]

    def refuse(*paths: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    result = save(made, live, 2)
    assert result["linked"] == ()
    assert inode(result["path"] / FROZEN) != inode(first / FROZEN)
    (warning,) = result["warnings"]
    assert FROZEN in warning
    assert first.name in warning
    assert os.strerror(number) in warning


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("kind", ["flipped", "cut"])
def test_a_file_that_was_changed_in_place_is_found_and_written_anew(
    tmp_path: Path, kind: str, resumed: bool
) -> None:
    made, _ = manager(tmp_path, incremental=True)
    live = frozen_training()
    save(made, live, 1)
    path = save(made, live, 2)["path"]
    with open(path / FROZEN, "r+b") as file:
        file.seek(-9, os.SEEK_END)
        file.truncate() if kind == "cut" else file.write(b"\0\1")
    assert not validate(path, Depth.CONTENT).valid
    if resumed:
        made, _ = manager(tmp_path, incremental=True)
    result = save(made, live, 3)
    assert result["linked"] == ()
    if kind == "flipped":  # a file that was cut makes its checkpoints broken: none is looked at
        (warning,) = result["warnings"]
        assert FROZEN in warning
    assert inode(result["path"] / FROZEN) != inode(path / FROZEN)
    fourth = save(made, live, 4)
    assert fourth["linked"] == (FROZEN,)
    assert inode(fourth["path"] / FROZEN) == inode(result["path"] / FROZEN)


def test_a_sound_file_is_read_once_in_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []

    def look(opened: Any, depth: Depth, **options: Any) -> Any:
        looked.append(options["names"])
        return observe(opened, depth, **options)

    monkeypatch.setattr(sharing, "observe", look)
    made, _ = manager(tmp_path, incremental=True, keep=KeepLast(2))
    live = frozen_training()
    for epoch in range(1, 5):
        save(made, live, epoch)
    assert looked == [("tensors.json", FROZEN)]


def test_links_need_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = manager(tmp_path, incremental=True)
    live = frozen_training()
    save(made, live, 1)
    monkeypatch.setattr("smartcash_format.disk.publish.free_bytes", lambda path: 1_000_000)
    assert save(made, live, 2)["linked"] == (FROZEN,)


def test_other_weights_in_the_root_share_nothing(tmp_path: Path) -> None:
    made, _ = manager(tmp_path, incremental=True)
    made.save_checkpoint({"a": torch.zeros(4)}, epoch=1, extra={"ema": nn.Linear(2, 2)})
    result = save(made, frozen_training(), 2)
    assert (result["linked"], result["warnings"]) == ((), ())
    assert read_meta(result["path"]).weights.keys() == {"model"}
    assert (result["path"] / INDEX).exists()
