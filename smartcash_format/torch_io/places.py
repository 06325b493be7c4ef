"""Whether live objects stand in each other's places.

All of them have a state dict, so a save of such would be whole, and of no use to any load.
"""

from __future__ import annotations

from typing import Final

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

_KINDS: Final = (
    (nn.Module, "model", "a module"),
    (Optimizer, "optimizer", "an optimizer"),
    (LRScheduler, "scheduler", "a scheduler"),
)


def misplaced(model: object, optimizer: object, scheduler: object) -> str:
    """A sentence about the first object that is of another's kind, or nothing."""
    given = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    for place, live in given.items():
        for kind, its_place, name in _KINDS:
            if isinstance(live, kind) and its_place != place:
                return (
                    f"{place} is {type(live).__name__}, {name}; "
                    "the order is model, optimizer, scheduler"
                )
    return ""
