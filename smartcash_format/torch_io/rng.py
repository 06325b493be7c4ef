"""Random number state: what a resumed run needs to draw the numbers it would have drawn."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch

from smartcash_format.torch_io.state_decoder import StateFormError

PYTHON, NUMPY, TORCH, ACCELERATOR = "python", "numpy", "torch", "accelerator"


def capture() -> dict[str, Any]:
    """The state of every global generator that this process uses.

    Python's, torch's on the CPU and on every device of the accelerator, once it is in use, and
    numpy's legacy one where numpy is imported (a program that has not imported it has drawn nothing
    from it). A numpy Generator is an object of the user's: it comes through `extra=`.
    """
    state: dict[str, Any] = {PYTHON: random.getstate(), TORCH: torch.get_rng_state()}
    if (numpy := sys.modules.get("numpy")) is not None:
        state[NUMPY] = numpy.random.get_state(legacy=False)
    kind = accelerator()
    if kind is not None and _in_use(kind):
        state[ACCELERATOR] = {"type": kind, "states": _device_states(kind)}
    return state


def fault(state: object) -> str | None:
    """Why `restore` would refuse a stored state; None when it takes it. Nothing is set."""
    try:
        _setters(state)
    except StateFormError as error:
        return str(error)
    return None


def restore(state: Mapping[str, Any]) -> tuple[str, ...]:
    """Sets every generator that `state` has; a sentence for each that is not here to be set.

    Raises StateFormError for a damaged state, before anything is set.
    """
    setters, notes = _setters(state)
    for setter in setters:
        setter()
    return notes


def generator_state(value: object) -> dict[str, Any] | None:
    """The state of a generator of the user's: numpy's, torch's or Python's; None of anything else.

    None of them has a state_dict().
    """
    if isinstance(value, torch.Generator):
        return {"state": value.get_state()}
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return {"state": value.getstate()}
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.random.Generator):
        return dict(value.bit_generator.state)
    if isinstance(value, numpy.random.RandomState):
        return dict(value.get_state(legacy=False))
    return None


def set_generator(live: Any, state: Mapping[str, Any]) -> bool:
    """Gives a generator the state that `generator_state` gave; False for anything else.

    Raises what the generator raises for a state of another kind.
    """
    if isinstance(live, torch.Generator):
        live.set_state(state["state"])
    elif isinstance(live, random.Random):
        live.setstate(state["state"])
    elif generator_state(live) is None:
        return False
    elif hasattr(live, "set_state"):
        live.set_state(state)
    else:
        live.bit_generator.state = state
    return True


def unfit(live: object, state: Any) -> str:
    """Why a generator would not take this state, tried on a copy; nothing for anything else."""
    if generator_state(live) is None:
        return ""
    try:
        # A torch generator has no copy, but its states of one device are alike.
        trial = (
            torch.Generator(live.device) if isinstance(live, torch.Generator) else deepcopy(live)
        )
        set_generator(trial, state)
    except Exception as error:  # noqa: BLE001 - the user's own class among them
        reason = f"{type(error).__name__}: {error}"
        return f"is no state that a {type(live).__name__} such as this takes ({reason:.200})"
    return ""


_Setter = Callable[[], None]


def _setters(state: object) -> tuple[list[_Setter], tuple[str, ...]]:
    """What sets each generator, tried on generators of its own, and what cannot be set here."""
    setters: list[_Setter] = []
    notes: list[str] = []
    if not isinstance(state, Mapping):
        raise StateFormError("is no mapping of generators to their states")
    try:
        # Devices first: only there can something fail that was not tried.
        if ACCELERATOR in state:
            _add_devices(state[ACCELERATOR], setters, notes)
        if TORCH in state:
            torch.Generator().set_state(state[TORCH])
            setters.append(lambda: torch.set_rng_state(state[TORCH]))
        if NUMPY in state:
            _add_numpy(state[NUMPY], setters, notes)
        if PYTHON in state:
            random.Random().setstate(state[PYTHON])
            setters.append(lambda: random.setstate(state[PYTHON]))
    except (TypeError, ValueError, LookupError, RuntimeError, AttributeError) as error:
        raise StateFormError(f"has a state that no generator takes: {error}") from error
    return setters, tuple(notes)


def _add_numpy(state: Any, setters: list[_Setter], notes: list[str]) -> None:
    try:
        import numpy
    except ImportError:
        notes.append("numpy's random state is not restored: numpy is not installed here")
        return
    here = numpy.random.get_state(legacy=False)["bit_generator"]
    if here != state["bit_generator"]:
        notes.append(
            f"numpy's random state is not restored: it is of {state['bit_generator']!s:.40}, and "
            f"the global generator here is {here}"
        )
        return
    numpy.random.RandomState(getattr(numpy.random, here)()).set_state(state)
    setters.append(lambda: numpy.random.set_state(state))


def accelerator() -> str | None:
    """The kind of accelerator that is here ("cuda", "mps", "xpu", ...); None without one."""
    if not torch.accelerator.is_available():
        return None
    device = torch.accelerator.current_accelerator()
    return None if device is None else device.type


def _in_use(kind: str) -> bool:
    """Asking a device for its state starts it: seconds and memory for a run that has no use for it.

    Kinds that cannot be asked count as in use.
    """
    is_initialized = getattr(torch.get_device_module(kind), "is_initialized", None)
    return not callable(is_initialized) or bool(is_initialized())


def _device_states(kind: str) -> list[Any]:
    module = torch.get_device_module(kind)
    if hasattr(module, "get_rng_state_all"):
        return [state.cpu() for state in module.get_rng_state_all()]
    return [module.get_rng_state().cpu()]


def _add_devices(saved: Mapping[str, Any], setters: list[_Setter], notes: list[str]) -> None:
    kind, states = saved["type"], saved["states"]
    if not isinstance(states, Sequence) or not all(_is_bytes(state) for state in states):
        raise TypeError("a device's state is a tensor of bytes")
    here = accelerator()
    if here != kind:
        notes.append(
            f"the random state of {kind!s:.40} is not restored: this process runs on "
            f"{here or 'the CPU'}"
        )
        return
    module = torch.get_device_module(kind)
    if not hasattr(module, "set_rng_state_all"):
        setters += [partial(module.set_rng_state, state) for state in states[:1]]
        return
    devices = torch.accelerator.device_count()
    for index, state in enumerate(states[:devices]):
        setters.append(partial(module.set_rng_state, state, index))
    if len(states) != devices:
        notes.append(
            f"random states of {len(states)} {kind} devices were saved, and {devices} are here"
        )


def _is_bytes(state: object) -> bool:
    return isinstance(state, torch.Tensor) and state.dtype == torch.uint8
