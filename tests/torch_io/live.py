"""Live objects that a load fills: a network, and an object of someone else's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, classes)
        self.register_buffer("anchors", torch.arange(6.0))
        self.register_buffer("cache", torch.zeros(2), persistent=False)


class Average:
    """An object of someone else's with state_dict and load_state_dict."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"w": torch.zeros(3), "decay": 0.5}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.state = dict(state)
