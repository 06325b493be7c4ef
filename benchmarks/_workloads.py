"""What the benchmarks of saving save: models of known shapes, an optimizer that has stepped, and
what an epoch changes in them.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

if importlib.util.find_spec("torch") is None:
    sys.exit("\ntorch is not installed: saving and loading are left out")

import torch  # noqa: E402
from torch import nn  # noqa: E402

from smartcash_format import CheckpointManager  # noqa: E402

# Tan and Le 2019, width 1.4 and depth 1.8: expansion, kernel, stride, channels, blocks.
STAGES = (
    (1, 3, 1, 24, 2), (6, 3, 2, 32, 4), (6, 5, 2, 56, 4), (6, 3, 2, 112, 6),
    (6, 5, 1, 160, 6), (6, 5, 2, 272, 8), (6, 3, 1, 448, 2),
)  # fmt: skip
STEM, TOP, CLASSES = 48, 1_792, 7
SMALL_TENSORS, SMALL_FLOATS = 2_000, 256
LARGE_TENSOR_BYTES = 16 << 20
# For growth: megabytes by workload.
GROWTH = {"100 MB": 100, "300 MB": 300, "1 GB": 1_000, "3 GB": 3_000, "8 GB": 8_000}
WORKLOADS = {
    "b4": "EfficientNet-B4 and its AdamW",
    "small": f"{SMALL_TENSORS:,} tensors of {SMALL_FLOATS * 4:,} bytes",
}


def conv(inputs: int, outputs: int, kernel: int, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


def block(inputs: int, outputs: int, kernel: int, expansion: int) -> nn.Module:
    inner = inputs * expansion
    squeezed = max(1, inputs // 4)
    return nn.Sequential(
        *(conv(inputs, inner, 1) if expansion > 1 else ()),
        *conv(inner, inner, kernel, groups=inner),
        nn.Conv2d(inner, squeezed, 1),
        nn.Conv2d(squeezed, inner, 1),
        *conv(inner, outputs, 1),
    )


def efficientnet_b4() -> nn.Module:
    """The tensors of the real one, in the order of the real one; it is never run."""
    layers: list[nn.Module] = conv(3, STEM, 3)
    inputs = STEM
    for expansion, kernel, _, outputs, count in STAGES:
        for _ in range(count):
            layers.append(block(inputs, outputs, kernel, expansion))
            inputs = outputs
    layers += [*conv(inputs, TOP, 1), nn.Linear(TOP, CLASSES)]
    return nn.Sequential(*layers)


def small_tensors() -> nn.Module:
    return nn.ParameterDict(
        {f"tensor_{n}": nn.Parameter(torch.randn(SMALL_FLOATS)) for n in range(SMALL_TENSORS)}
    )


@dataclass
class Live:
    """What a training holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer | None
    # One for a whole benchmark, as a training has; its root stands while its checkpoints go.
    manager: CheckpointManager
    peers: dict[str, Any] = field(default_factory=dict)
    waiting: list[Any] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        return {
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict() if self.optimizer else {},
            "epoch": 1,
        }

    def tensors(self) -> list[torch.Tensor]:
        moments = self.optimizer.state.values() if self.optimizer else ()
        rest = [value for state in moments for value in state.values()]
        return [*self.model.state_dict().values(), *rest]

    def train(self) -> None:
        """What an epoch leaves: no tensor is what it was, and the learning rate is another."""
        with torch.no_grad():
            for tensor in self.tensors():
                tensor.view(-1)[:1] += 1
        for group in self.optimizer.param_groups if self.optimizer else ():
            group["lr"] *= 0.99

    def fill(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model_state_dict"])
        if self.optimizer:
            self.optimizer.load_state_dict(state["optimizer_state_dict"])


def make_live(workload: str, root: Path) -> Live:
    """A workload, and a manager of checkpoints in `root`."""
    torch.manual_seed(7)
    if workload in GROWTH:
        return make_large(GROWTH[workload], root)
    if workload == "small":
        return Live(small_tensors(), None, CheckpointManager(root))
    model = efficientnet_b4()
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return Live(model, optimizer, CheckpointManager(root))


def make_large(megabytes: int, root: Path) -> Live:
    """A third of the bytes are weights, the rest AdamW's moments."""
    count = max(1, round(megabytes * 1e6 / 3 / LARGE_TENSOR_BYTES))
    model = nn.ParameterList(
        nn.Parameter(torch.full((LARGE_TENSOR_BYTES // 4,), 0.5)) for _ in range(count)
    )
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        parameter.grad = None
    return Live(model, optimizer, CheckpointManager(root))
