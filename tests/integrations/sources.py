"""Files as other programs write them; whole modules of packages that are gone afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.ready import Ready

# A package `models.yolo` that exists while the file is written, and never again.
_DETECTOR = """
import sys, types, torch
from torch import nn
package, module = types.ModuleType("models"), types.ModuleType("models.yolo")
sys.modules["models"], sys.modules["models.yolo"] = package, module
exec('''
import torch
from torch import nn
class Conv(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, 3, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.SiLU()
class DetectionModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(Conv(3, 4), Conv(4, 4))
        self.tied = self.model[0].conv
        self.register_buffer("anchors", torch.arange(6.).reshape(3, 2))
        self.register_buffer("grid", torch.zeros(2), persistent=False)
        self.names = {0: "1000", 1: "2000"}
        self.stride = torch.tensor([8., 16., 32.])
''', module.__dict__)
for name in ("Conv", "DetectionModel"):
    getattr(module, name).__module__ = "models.yolo"
torch.manual_seed(3)
model, ema = module.DetectionModel().half(), module.DetectionModel().half()
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
for parameter in model.parameters():
    parameter.grad = torch.ones_like(parameter)
optimizer.step()
checkpoint = dict(epoch=4, best_fitness=0.25, model=model, ema=ema, updates=7,
    optimizer=optimizer.state_dict(), opt={"lr0": 0.01, "data": "rupiah.yaml"}, git=None,
    date="2024-05-06T07:08:09.101112")
torch.save(checkpoint, sys.argv[1], _use_new_zipfile_serialization=sys.argv[2] == "zip")
torch.save(dict(model=model.state_dict(), ema=ema.state_dict()), sys.argv[3])
"""


def write_yolo(directory: Path, form: str, ready: Ready) -> tuple[Path, dict[str, Any]]:
    """A YOLOv5 training's file, `zip` or `legacy`, and the state dicts that it must give."""
    file, expected = directory / "yolo.pt", directory / "expected"
    code, errors = ready(_DETECTOR, str(file), form, str(expected))
    assert code == 0, errors
    states: dict[str, Any] = torch.load(expected, weights_only=True)
    expected.unlink()
    return file, states


def trained() -> tuple[nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """A small model with a state in everything."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for _ in range(2):
        model(torch.rand(5, 4)).sum().backward()
        optimizer.step()
        scheduler.step()
    return model, optimizer, scheduler


def smartcash(model: nn.Module, optimizer: Any, scheduler: Any) -> dict[str, Any]:
    """SmartCash's training dictionary."""
    return {
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": scheduler.state_dict(),
        "epoch": 12,
        "metrics": {"val_map": 0.75, "val_loss": float("nan")},
        "config": {"model": {"backbone": "efficientnet_b4"}, "data": {"source": "roboflow"}},
        "timestamp": "2025-01-02T03:04:05",
        "phase": 2,
        "session_id": "20250102_030405",
    }
