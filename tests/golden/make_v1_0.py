"""How tests/golden/v1.0 was made: once, by the release that it is named after. Not run again.

`python -m tests.golden.make_v1_0 DIRECTORY` writes a root of two runs and what is expected of it.
"""

from __future__ import annotations

import copy
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from smartcash_format.manager.checkpoint_manager import CheckpointManager


class Net(nn.Module):
    """A backbone with buffers, a tied weight, a half-precision head, state beside the tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.embed = nn.Linear(3, 4, bias=False)
        self.decode = nn.Linear(3, 4)
        self.decode.weight = self.embed.weight
        self.scale = nn.Parameter(torch.tensor([0.5, 2.0], dtype=torch.bfloat16))
        self.seen = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.backbone(images).mean(dim=(2, 3))
        weight = self.embed.weight[:2, :2]
        return features @ weight * self.scale.float() + self.decode.bias[:2]

    def get_extra_state(self) -> Any:
        return {"seen": self.seen}

    def set_extra_state(self, state: Any) -> None:
        self.seen = state["seen"]


class Sampler:
    """Where a data loader stands: a numpy generator and a position."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(3)
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "generator": self.generator.bit_generator.state,
            "position": self.position,
            "order": np.arange(4, dtype=np.int16),
            "done": {1, 2},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.bit_generator.state = state["generator"]
        self.position = state["position"]


class Training:
    """Every live object of a run, as new as it can be."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = Net()
        self.ema = copy.deepcopy(self.model)
        slow = [*self.model.backbone.parameters()]
        fast = [self.model.embed.weight, self.model.decode.bias, self.model.scale]
        groups: list[dict[str, Any]] = [{"params": slow, "lr": 0.0001}, {"params": fast}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=4)
        self.sampler = Sampler()

    @property
    def extra(self) -> dict[str, Any]:
        return {"ema": self.ema, "sampler": self.sampler}

    def epoch(self) -> float:
        loss = torch.zeros(())
        for _ in range(2):
            self.optimizer.zero_grad()
            loss = self.model(torch.randn(2, 1, 5, 5)).square().mean()
            loss.backward()
            self.optimizer.step()
            self.model.seen += 2
            self.sampler.position += 2
        self.scheduler.step()
        with torch.no_grad():
            for average, value in zip(self.ema.parameters(), self.model.parameters(), strict=True):
                average.lerp_(value, 0.5)
        return loss.item()


def plain(value: Any) -> Any:
    """State as JSON, exactly: floats as hexadecimal text, tensors with dtype and shape."""
    if isinstance(value, torch.Tensor):
        values = plain(value.detach().reshape(-1).tolist())
        return {"dtype": str(value.dtype), "shape": [*value.shape], "values": values}
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "values": value.tolist()}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return float.hex(value) if type(value) is float else value


def state_of(training: Training) -> dict[str, Any]:
    """All state of a run, to be compared after a load."""
    return {
        "model": plain(dict(training.model.state_dict())),
        "ema": plain(dict(training.ema.state_dict())),
        "optimizer": plain(training.optimizer.state_dict()),
        "scheduler": plain(training.scheduler.state_dict()),
        "sampler": plain(training.sampler.state_dict()),
    }


def draws(training: Training) -> dict[str, str]:
    """The next number of every generator."""
    return {
        "python": random.random().hex(),
        "numpy": float(np.random.random()).hex(),
        "torch": float(torch.rand(1, dtype=torch.float64)).hex(),
        "sampler": float(training.sampler.generator.random()).hex(),
    }


def save(
    manager: CheckpointManager, training: Training, epoch: int, **given: Any
) -> tuple[str, dict[str, Any]]:
    """The name of what was saved, and what the live objects held then."""
    metrics = {"val": {"loss": training.epoch(), "map": 0.1 * epoch}, "lr": [0.01]}
    config = {
        "model": {"backbone": "efficientnet_b4"},
        "data": {"source": "rupiah"},
        "root": Path("data/rupiah"),
        "sizes": (640, 640),
        "warmup": math.inf,
        1: "a key that is no text",
    }
    result = manager.save_checkpoint(
        training.model,
        training.optimizer,
        training.scheduler,
        config,
        epoch,
        metrics,
        step=2 * epoch,
        extra=training.extra,
        notes={"by": "the golden run"},
        **given,
    )
    # What was drawn after the save is what a resume has to draw.
    return result["path"].name, {"state": state_of(training), "draws": draws(training)}


def main(directory: Path) -> None:
    random.seed(1)
    np.random.seed(2)
    root = directory / "root"
    expected: dict[str, Any] = {}
    first = Training(seed=4)
    manager = CheckpointManager(root, monitor="val/loss", mode="min")
    for epoch in (1, 2):
        name, state = save(manager, first, epoch, tags=("golden",), is_best=epoch == 1)
        expected[name] = state | {"epoch": epoch, "is_best": epoch == 1}
    resumed = Training(seed=5)
    again = CheckpointManager(root)
    again.load_checkpoint(
        "latest", None, resumed.model, resumed.optimizer, resumed.scheduler, extra=resumed.extra
    )
    name, state = save(again, resumed, 3, tags=("golden", "resumed"), is_best=False)
    expected[name] = state | {"epoch": 3, "is_best": False}
    # Weights alone, of a plain dict, and a loss that is no number.
    weights = {"only.weight": torch.tensor([0, 1, 65535], dtype=torch.uint16)}
    result = again.save_checkpoint(weights, epoch=4, metrics={"loss": math.nan}, rng=False)
    expected[result["path"].name] = {"epoch": 4, "is_best": False}
    again.protect(root / next(iter(expected)), "the first golden one")
    (directory / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
