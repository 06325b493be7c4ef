"""Random number state: what a resumed run needs to draw the numbers it would have drawn."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import torch

PYTHON, NUMPY, TORCH, ACCELERATOR = "python", "numpy", "torch", "accelerator"


def capture() -> dict[str, Any]:
    """The state of every global generator that this process uses.

    Python's, torch's on the CPU and on every accelerator of the current kind, and numpy's legacy
    one where numpy is imported (a program that has not imported it has drawn nothing from it).
    A numpy Generator is an object of the user's: it comes through `extra=`.
    """
    state: dict[str, Any] = {PYTHON: random.getstate(), TORCH: torch.get_rng_state()}
    if (numpy := sys.modules.get("numpy")) is not None:
        state[NUMPY] = numpy.random.get_state(legacy=False)
    kind = accelerator()
    if kind is not None:
        state[ACCELERATOR] = {"type": kind, "states": _device_states(kind)}
    return state


def restore(state: Mapping[str, Any]) -> tuple[str, ...]:
    """Sets every generator that `state` has; a sentence for each that is not here to be set."""
    notes = []
    if PYTHON in state:
        version, internal, gauss = state[PYTHON]
        random.setstate((version, tuple(internal), gauss))
    if NUMPY in state:
        if (numpy := _numpy()) is not None:
            numpy.random.set_state(state[NUMPY])
        else:
            notes.append("numpy's random state is not restored: numpy is not installed here")
    if TORCH in state:
        torch.set_rng_state(state[TORCH].cpu())
    if ACCELERATOR in state:
        notes += _restore_devices(state[ACCELERATOR])
    return tuple(notes)


def accelerator() -> str | None:
    """The kind of accelerator in use ("cuda", "mps", "xpu", ...); None without one."""
    if not torch.accelerator.is_available():
        return None
    device = torch.accelerator.current_accelerator()
    return None if device is None else device.type


def _device_states(kind: str) -> list[Any]:
    module = torch.get_device_module(kind)
    if hasattr(module, "get_rng_state_all"):
        return [state.cpu() for state in module.get_rng_state_all()]
    return [module.get_rng_state().cpu()]


def _restore_devices(saved: Mapping[str, Any]) -> list[str]:
    kind, states = saved["type"], saved["states"]
    here = accelerator()
    if here != kind:
        return [f"the random state of {kind} is not restored: this process runs on {here or 'CPU'}"]
    module = torch.get_device_module(kind)
    if not hasattr(module, "set_rng_state_all"):
        module.set_rng_state(states[0])
        return []
    devices = torch.accelerator.device_count()
    for index, state in enumerate(states[:devices]):
        module.set_rng_state(state, index)
    if len(states) == devices:
        return []
    return [f"random states of {len(states)} {kind} devices were saved; {devices} are here"]


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        return None
    return numpy
