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
from tests.integrations.sources import trained


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
        "git": {"root": "/home/someone/work", "commit": None},
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
                "best_model_path": "/home/someone/lightning_logs/epoch=3-step=96.ckpt",
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
