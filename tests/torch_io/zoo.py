"""Every optimizer and scheduler of torch, alive, found by introspection."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn, optim
from torch.optim import lr_scheduler as lrs


def _found(module: Any, base: type) -> tuple[str, ...]:
    return tuple(
        name
        for name, kind in sorted(vars(module).items())
        if isinstance(kind, type)
        and issubclass(kind, base)
        and kind is not base
        and kind.__name__ == name
        and not name.startswith("_")
    )


OPTIMIZERS = _found(optim, optim.Optimizer)
SCHEDULERS = _found(lrs, lrs.LRScheduler)
# What makes an optimizer keep all the state that it can keep.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "Adam": {"amsgrad": True},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "SGD": {"momentum": 0.9, "nesterov": True},
    "LBFGS": {"max_iter": 3, "history_size": 5},
}


class Small(nn.Module):
    """Weights of one shape, used unalike so that mixing them up shows, and a bias."""

    def __init__(self, names: str = "abcd", *, bias: bool = True) -> None:
        super().__init__()
        for name in names:
            generator = torch.Generator().manual_seed(ord(name))
            self.register_parameter(name, nn.Parameter(torch.randn(4, 4, generator=generator)))
        if bias:
            self.bias = nn.Parameter(torch.zeros(4))
        self.order = sorted(names)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for index, name in enumerate(self.order):
            x = torch.tanh(x @ getattr(self, name)) * (index + 1)
        return x + self.bias if hasattr(self, "bias") else x


class Sparse(nn.Module):
    """Two tables of one shape, for the optimizer that takes only sparse gradients."""

    def __init__(self, names: str = "ab") -> None:
        super().__init__()
        for name in names:
            table = nn.Embedding(6, 4, sparse=True)
            with torch.no_grad():
                table.weight.copy_(torch.arange(24.0).view(6, 4) * ord(name) / 1000)
            self.add_module(name, table)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = (x[:, 0] > 0).long() + 1
        tables: Any = self
        found: torch.Tensor = tables.a(rows) * tables.b(rows + 1)
        return found


@dataclass
class Training:
    """A model and its optimizer, and one step of their training."""

    model: nn.Module
    optimizer: optim.Optimizer

    def step(self, seed: int = 0) -> float:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(3, 4, generator=generator).to(next(self.model.parameters()).dtype)

        def closure() -> float:
            self.optimizer.zero_grad()
            loss: torch.Tensor = (self.model(x) ** 2).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()  # type: ignore[return-value]

        return float(self.optimizer.step(closure))


def fresh(name: str, names: str = "", **arguments: Any) -> Training:
    """A training whose parameters are registered in the order of `names`, before any step."""
    model: nn.Module
    if name == "SparseAdam":
        model = Sparse(names or "ab")
    else:
        model = Small(names or "abcd", bias=name != "Muon")
    kind: Callable[..., optim.Optimizer] = getattr(optim, name)
    return Training(model, kind(model.parameters(), **{**ARGUMENTS.get(name, {}), **arguments}))


def stepped(name: str, names: str = "", *, steps: int = 3, **arguments: Any) -> Training:
    """The same after some steps."""
    training = fresh(name, names, **arguments)
    for seed in range(steps):
        training.step(seed)
    return training


def scheduler(name: str, optimizer: optim.Optimizer) -> Any:
    """A scheduler of this class over the optimizer."""
    makers: dict[str, Callable[[], Any]] = {
        "ChainedScheduler": lambda: lrs.ChainedScheduler(
            [lrs.ConstantLR(optimizer, total_iters=2), lrs.ExponentialLR(optimizer, 0.9)]
        ),
        "ConstantLR": lambda: lrs.ConstantLR(optimizer, total_iters=2),
        "CosineAnnealingLR": lambda: lrs.CosineAnnealingLR(optimizer, T_max=10),
        "CosineAnnealingWarmRestarts": lambda: lrs.CosineAnnealingWarmRestarts(optimizer, T_0=2),
        "CyclicLR": lambda: lrs.CyclicLR(optimizer, 0.01, 0.1, step_size_up=3),
        "ExponentialLR": lambda: lrs.ExponentialLR(optimizer, 0.9),
        "LambdaLR": lambda: lrs.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
        "LinearLR": lambda: lrs.LinearLR(optimizer, total_iters=4),
        "MultiStepLR": lambda: lrs.MultiStepLR(optimizer, [2, 4]),
        "MultiplicativeLR": lambda: lrs.MultiplicativeLR(optimizer, lambda epoch: 0.9),
        "OneCycleLR": lambda: lrs.OneCycleLR(optimizer, 0.1, total_steps=20),
        "PolynomialLR": lambda: lrs.PolynomialLR(optimizer, total_iters=10),
        "ReduceLROnPlateau": lambda: lrs.ReduceLROnPlateau(optimizer, patience=1),
        "SequentialLR": lambda: lrs.SequentialLR(
            optimizer,
            [lrs.ConstantLR(optimizer, total_iters=2), lrs.CosineAnnealingLR(optimizer, 8)],
            milestones=[2],
        ),
        "StepLR": lambda: lrs.StepLR(optimizer, 2),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return makers[name]()


def step_scheduler(live: Any) -> None:
    """One step of any scheduler; what torch warns of about itself does not count here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(live, lrs.ReduceLROnPlateau):
            live.step(1.0)
        else:
            live.step()
