"""Which object is meant, and whether live objects stand in each other's places.

All of them have a state dict, so a save of such would be whole, and of no use to any load.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from smartcash_format.torch_io.weights import unwrap

_KINDS: Final = (
    (nn.Module, "model", "a module"),
    (Optimizer, "optimizer", "an optimizer"),
    (LRScheduler, "scheduler", "a scheduler"),
)


# What accelerate's prepare(), Fabric's setup() and a LightningModule's optimizers() give in an
# object's place, and where that is in it. What a checkpoint is about is the class, the names and
# the state of what they wrap.
_WRAPPERS: Final = (
    ("accelerate.optimizer", "AcceleratedOptimizer", "optimizer", Optimizer),
    ("accelerate.scheduler", "AcceleratedScheduler", "scheduler", LRScheduler),
    ("lightning_fabric.wrappers", "_FabricOptimizer", "optimizer", Optimizer),
    ("lightning_fabric.wrappers", "_FabricModule", "module", nn.Module),
    ("lightning.fabric.wrappers", "_FabricOptimizer", "optimizer", Optimizer),
    ("lightning.fabric.wrappers", "_FabricModule", "module", nn.Module),
    ("lightning.pytorch.core.optimizer", "LightningOptimizer", "optimizer", Optimizer),
    ("pytorch_lightning.core.optimizer", "LightningOptimizer", "optimizer", Optimizer),
)


def bare(live: Any) -> Any:
    """A live object without the wrapper of accelerate or Lightning; else the object."""
    for module, name, attribute, kind in _WRAPPERS:
        wrapper = getattr(sys.modules.get(module), name, None)
        if isinstance(wrapper, type) and isinstance(live, wrapper):
            inner = getattr(live, attribute, None)
            return inner if isinstance(inner, kind) and _is_whole(live, inner) else live
    return live


def _is_whole(wrapper: object, inner: object) -> bool:
    """Whether a module in a wrapper has all of the weights: that of FSDP has a part of them."""
    forward = getattr(wrapper, "_forward_module", inner)
    return unwrap(forward) is unwrap(inner)


def bare_class(class_name: str | None) -> str | None:
    """The class that a checkpoint says it was saved from; None where that is only a wrapper's."""
    return None if class_name in {name for _, name, *_ in _WRAPPERS} else class_name


def misplaced(model: object, optimizer: object, scheduler: object) -> str:
    """A sentence about the first object that is of another's kind or a class, or nothing."""
    given = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    for place, live in given.items():
        if isinstance(live, type):
            return f"{place} is {live.__name__}, a class, which has no state"
        for kind, its_place, name in _KINDS:
            if isinstance(live, kind) and its_place != place:
                return (
                    f"{place} is {type(live).__name__}, {name}; "
                    "the order is model, optimizer, scheduler"
                )
    return ""
