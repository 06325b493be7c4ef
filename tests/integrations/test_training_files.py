"""Lightning's and Ultralytics' files, their classes gone when they are read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from smartcash_format.disk.observe import validate
from smartcash_format.disk.read import read_meta
from smartcash_format.integrations.comparison import same, same_bits
from smartcash_format.integrations.convert import Conversion, convert
from smartcash_format.spec.problems import Depth
from smartcash_format.torch_io.load import load_checkpoint
from smartcash_format.torch_io.read_state import load_tensors
from tests.integrations.sources import smartcash, trained


@contextmanager
def _package_of(name: str, *classes: type) -> Iterator[None]:
    """While this lasts the classes are those of a package; afterwards there is none."""
    parts = name.split(".")
    paths = [".".join(parts[: count + 1]) for count in range(len(parts))]
    for path in paths:
        sys.modules[path] = ModuleType(path)
    for each in classes:
        each.__module__, each.__qualname__ = name, each.__name__
        setattr(sys.modules[name], each.__name__, each)
    try:
        yield
    finally:
        for path in paths:
            del sys.modules[path]


class DetectionModel(nn.Module):
    """What a detector is to a pickle: modules, tensors and words about itself."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.names = {0: "1000", 1: "2000"}
        self.yaml = {"nc": 2, "backbone": "efficientnet_b4"}


class AttributeDict(dict[str, Any]):
    """A dict of the framework's own, as Lightning keeps hyperparameters."""


def _known(done: Conversion) -> dict[str, tuple[str, str]]:
    return {field.name: (str(field.known), field.source) for field in done.fields}


def _converted(done: Conversion) -> Path:
    assert done.path is not None
    assert validate(done.path, Depth.CONTENT).problems == ()
    return done.path


def _ultralytics(model: nn.Module | None, ema: nn.Module | None, epoch: int) -> dict[str, Any]:
    weights = ema or model
    assert weights is not None
    optimizer = torch.optim.AdamW(weights.parameters())
    for parameter in weights.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {
        "epoch": epoch,
        "best_fitness": np.float64(0.625),
        "model": model,
        "ema": ema,
        "updates": 21,
        "optimizer": optimizer.state_dict() if epoch >= 0 else None,
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 3},
        "train_args": {"data": "rupiah.yaml", "imgsz": 640, "project": Path("runs")},
        "train_metrics": {"metrics/mAP50-95(B)": np.float64(0.5), "fitness": 0.5},
        "train_results": {"epoch": [1, 2], "train/box_loss": [1.5, 1.25]},
        "date": "2025-06-07T08:09:10.111213",
        "version": "8.3.40",
        "git": {"root": "/srv/someone/work", "commit": None},
    }


def test_an_unfinished_training_of_ultralytics_has_its_average_as_model(tmp_path: Path) -> None:
    ema = DetectionModel().half()
    source = tmp_path / "last.pt"
    with _package_of("ultralytics.nn.tasks", DetectionModel):
        value = _ultralytics(None, ema, 4)
        torch.save(value, source)
    done = convert(source, tmp_path / "root")
    meta = read_meta(_converted(done))
    assert done.kind == "a training dictionary (Ultralytics)"
    assert meta.metrics == {"metrics/mAP50-95(B)": 0.5, "fitness": 0.5, "best_fitness": 0.625}
    assert (meta.epoch, meta.saved_at.microsecond) == (5, 111213)
    assert meta.config == {"data": "rupiah.yaml", "imgsz": 640, "project": "runs"}
    assert (meta.notes["version"], meta.notes["names"]) == ("8.3.40", {"0": "1000", "1": "2000"})
    known = _known(done)
    assert known["epoch"] == ("inferred", "epoch: Ultralytics counts from 0")
    assert known["model"][0] == "inferred"
    assert known["extra[scaler]"] == ("read", "scaler")
    assert known["config"] == ("read", "train_args")
    for name in ("model", "ema"):
        stored = load_tensors(_converted(done), weight_set=name)
        assert set(stored) == set(ema.state_dict())
        assert all(same_bits(stored[key], ema.state_dict()[key]) for key in stored)
    state = load_checkpoint(_converted(done), components=())["optimizer_state_dict"]
    assert same(value["optimizer"]["state"], state["state"])


def test_a_finished_training_of_ultralytics_has_weights_and_no_epoch(tmp_path: Path) -> None:
    model = DetectionModel().half()
    source = tmp_path / "best.pt"
    with _package_of("ultralytics.nn.tasks", DetectionModel):
        torch.save(_ultralytics(model, None, -1), source)
    done = convert(source, tmp_path / "root")
    meta = read_meta(_converted(done))
    assert set(meta.weights) == {"model"}
    assert (meta.epoch, meta.is_best, meta.optimizer) == (0, True, None)
    known = _known(done)
    assert known["epoch"][0] == known["optimizer"][0] == "unknown"
    assert known["is_best"] == ("inferred", "the name of the file")


def _lightning(model: nn.Module, optimizer: Any, scheduler: Any) -> dict[str, Any]:
    return {
        "epoch": 3,
        "global_step": 96,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": model.state_dict(),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val_loss', 'mode': 'min'}": {
                "monitor": "val_loss",
                "current_score": torch.tensor(0.25),
                "best_model_score": torch.tensor(0.25),
                "best_model_path": "/srv/someone/lightning_logs/epoch=3-step=96.ckpt",
            }
        },
        "optimizer_states": [optimizer.state_dict(), {"state": {}, "param_groups": []}],
        "lr_schedulers": [scheduler.state_dict()],
        "MixedPrecision": {"scale": 1024.0},
        "hparams_name": "kwargs",
        "hyper_parameters": AttributeDict(lr=0.01, backbone="resnet18"),
    }


def test_a_checkpoint_of_lightning_goes_on(tmp_path: Path) -> None:
    model, optimizer, scheduler = trained()
    source = tmp_path / "epoch=3-step=96.ckpt"
    with _package_of("lightning_fabric.utilities.data", AttributeDict):
        torch.save(_lightning(model, optimizer, scheduler), source)
    done = convert(source, tmp_path / "root")
    meta = read_meta(_converted(done))
    assert done.kind == "a training dictionary (Lightning)"
    assert (meta.epoch, meta.step, meta.is_best) == (4, 96, True)
    assert meta.metrics == {"val_loss": 0.25}
    assert (meta.backbone, meta.config) == ("resnet18", {"lr": 0.01, "backbone": "resnet18"})
    known = _known(done)
    assert known["metrics"] == ("read", "callbacks: ModelCheckpoint")
    assert known["is_best"][0] == "read"
    assert "optimizer_states[1]: more than one optimizer" in done.dropped
    assert {"callbacks", "scaler"} <= set(meta.extra)
    fresh, other, schedule = trained()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    load_checkpoint(_converted(done), model=fresh, optimizer=other, scheduler=schedule)
    assert same(model.state_dict(), fresh.state_dict())
    assert same(optimizer.state_dict(), other.state_dict())


def test_a_model_wrapped_for_several_devices_comes_in_as_itself(tmp_path: Path) -> None:
    model = trained()[0]
    torch.save({"model": nn.DataParallel(model)}, tmp_path / "w.pt")
    path = _converted(convert(tmp_path / "w.pt", tmp_path / "root"))
    assert read_meta(path).weights["model"].class_name == "Sequential"
    stored = load_tensors(path)
    assert set(stored) == set(model.state_dict())
    assert all(same_bits(stored[key], value) for key, value in model.state_dict().items())


def test_a_name_of_a_model_is_no_model(tmp_path: Path) -> None:
    state = trained()[0].state_dict()
    torch.save({"model": "efficientnet_b4", "net": state, "epoch": 3}, tmp_path / "w.pt")
    done = convert(tmp_path / "w.pt", tmp_path / "root")
    assert _known(done)["model"] == ("read", "net")
    assert read_meta(_converted(done)).notes["model"] == "efficientnet_b4"


def test_what_a_state_dict_has_beside_tensors_is_said_and_not_counted(tmp_path: Path) -> None:
    state = dict(trained()[0].state_dict()) | {"head._extra_state": {"seen": 3}}
    torch.save({"model": state, "ema": dict(state)}, tmp_path / "w.pt")
    done = convert(tmp_path / "w.pt", tmp_path / "root")
    assert done.tensors == len(state) - 1
    assert _known(done)["model, not tensors"] == ("read", "1 entries: head._extra_state")
    assert "ema: head._extra_state: no tensor" in done.dropped
    _converted(done)


def test_of_two_keys_that_read_alike_the_second_is_listed(tmp_path: Path) -> None:
    states = {1: {"a": torch.ones(1)}, "1": {"a": torch.zeros(1)}, 2: "x", "2": "y"}
    torch.save({"model": trained()[0].state_dict(), **states}, tmp_path / "w.pt")
    done = convert(tmp_path / "w.pt", tmp_path / "root")
    assert "1: another state has this name" in done.dropped
    assert "2: another value has this name" in done.dropped
    assert {"1"} == set(read_meta(_converted(done)).extra)
    assert read_meta(_converted(done)).notes["2"] == "x"


def test_a_number_beyond_64_bits_is_no_epoch(tmp_path: Path) -> None:
    values = {"epoch": 10**30, "global_step": 2**63 - 1}
    torch.save({"model": trained()[0].state_dict(), **values}, tmp_path / "w.pt")
    done = convert(tmp_path / "w.pt", tmp_path / "root")
    meta = read_meta(_converted(done))
    assert (meta.epoch, meta.step) == (0, None)
    assert meta.notes["epoch"] == str(10**30)


# SmartCash wrote its checkpoints in two layouts: a training's and a best model's.
_TRAINING = ("model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "epoch")
_BEST = ("model_state_dict", "epoch", "metrics", "config", "timestamp", "phase", "session_id")


def test_both_layouts_of_smartcash_come_in(tmp_path: Path) -> None:
    whole = smartcash(*trained())
    for name, keys in (("last.pth", (*_TRAINING, "metrics")), ("best.pth", _BEST)):
        torch.save({key: whole[key] for key in keys}, tmp_path / name)
    last, best = (convert(tmp_path / name, tmp_path / "root") for name in ("last.pth", "best.pth"))
    assert {last.kind, best.kind} == {"a training dictionary (SmartCash)"}
    assert _known(last)["optimizer"] == ("read", "optimizer_state_dict")
    assert _known(last)["saved_at"][0] == "inferred"
    assert _known(best)["optimizer"][0] == "unknown"
    assert _known(best)["saved_at"] == ("read", "timestamp")
    meta = read_meta(_converted(best))
    assert (meta.epoch, meta.is_best, meta.optimizer, meta.notes["phase"]) == (12, True, None, 2)
    assert read_meta(_converted(last)).optimizer is not None
