"""A small training with every kind of state, and a manager's log kept for reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smartcash_format.manager.checkpoint_manager import CheckpointManager
from tests.smartcash_logger import SmartCashLogger


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Live objects that have taken a few steps."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler

    def live(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}

    def step(self) -> float:
        """One step on random data, with dropout: its loss depends on all of the state."""
        self.model.train()
        loss = self.model(torch.randn(4, 3)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return float(loss.item())

    def state(self) -> dict[str, Any]:
        """All that a load may change, copied."""
        return {
            "model": {k: v.clone() for k, v in self.model.state_dict().items()},
            "optimizer": _copied(self.optimizer.state_dict()),
            "scheduler": dict(self.scheduler.state_dict()),
            "rng": torch.get_rng_state(),
        }


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value


def same(left: Any, right: Any) -> bool:
    """Equal bit for bit, all the way down."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and torch.equal(left, right)
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def training(seed: int = 0, steps: int = 2, width: int = 5) -> Training:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 2)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    made = Training(model=model, optimizer=optimizer, scheduler=scheduler)
    for _ in range(steps):
        made.step()
    return made


def manager(root: Path, **options: Any) -> tuple[CheckpointManager, SmartCashLogger]:
    log = SmartCashLogger("test")
    return CheckpointManager(root, log, **options), log


def said(log: SmartCashLogger, level: str) -> str:
    return "\n".join(text for found, text in log.lines if found == level)
