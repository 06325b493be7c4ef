"""The live side of a weight set: what it has, and how it is filled without changing hands.

Parameters and buffers keep their identity and memory: the stored values are copied into them. What
the user's own code takes part in comes last (`finish`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final, Protocol

import torch
from torch import nn

from smartcash_format.errors import CheckpointError, UnsavableStateError
from smartcash_format.spec.problems import Problem
from smartcash_format.torch_io.dtypes import DTYPES, TORCH_DTYPES
from smartcash_format.torch_io.fit_tensors import TensorForm
from smartcash_format.torch_io.inference import written_to
from smartcash_format.torch_io.module_loading import handled
from smartcash_format.torch_io.weights import live_state

EXTRA_STATE: Final = "_extra_state"
# What state_dict() records for a module that says nothing else.
_VERSION: Final = 1


class Target(Protocol):
    """Something live that takes tensors by name, and other state by name.

    `is_late`: all of it is the user's own code, so that `finish` alone fills it.
    """

    @property
    def is_late(self) -> bool: ...

    def forms(self) -> dict[str, TensorForm]:
        """Dtype and shape of every tensor it has."""

    def states(self) -> frozenset[str]:
        """The names of its state that is no tensor."""

    def handled(
        self, stored: Mapping[str, TensorForm], versions: Mapping[str, int]
    ) -> frozenset[str]:
        """The names on either side that its own code takes care of when they do not agree."""

    def problems(self) -> tuple[Problem, ...]:
        """What keeps tensors of it from being written to at all."""

    def fill(
        self,
        tensors: Mapping[str, torch.Tensor],
        states: Mapping[str, Any],
        versions: Mapping[str, int],
    ) -> None:
        """Takes the tensors, which are views of a file, and copies them."""

    def finish(self, states: Mapping[str, Any]) -> None:
        """Takes what only its own code can take."""

    def drop_views(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Gives memory of its own to whatever still lies in these ranges of addresses."""


def is_loadable(live: Any) -> bool:
    """Whether this object can be filled: a module, a state dict, anything with load_state_dict."""
    if isinstance(live, type):
        return False  # a class has the method too, and nothing to be filled
    return isinstance(live, MutableMapping) or callable(getattr(live, "load_state_dict", None))


def target_of(live: Any) -> Target:
    """How a loadable object is filled."""
    if isinstance(live, nn.Module):
        return ModuleTarget(live)
    if isinstance(live, MutableMapping):
        return MappingTarget(live)
    return ObjectTarget(live)


def is_extra_state(name: str) -> bool:
    """Whether a name of a state dict is what a module's get_extra_state gave."""
    return name.rpartition(".")[2] == EXTRA_STATE


def _split(state: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], frozenset[str]]:
    """The tensors, and the names of everything else."""
    tensors = {
        name: value
        for name, value in state.items()
        if isinstance(value, torch.Tensor) and not is_extra_state(name)
    }
    return tensors, frozenset(state.keys() - tensors.keys())


def _form(tensor: torch.Tensor) -> TensorForm:
    lazy = nn.parameter.is_lazy(tensor)
    return TensorForm(
        dtype=DTYPES.get(tensor.dtype, str(tensor.dtype)),
        shape=None if lazy else tuple(tensor.shape),
    )


def _unwritable(name: str, tensor: torch.Tensor) -> Problem | None:
    if tensor.device.type == "meta":
        reason = "is on the meta device and has no memory: model.to_empty(device=...) first"
    elif tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        reason = "is a sparse, quantized or nested tensor, which no checkpoint holds"
    elif type(tensor).__name__ == "DTensor":
        reason = "is a DTensor: load into the model before it is sharded"
    elif any(not stride and size > 1 for size, stride in zip(*_laid_out(tensor), strict=True)):
        reason = "is expanded: several of its elements are one place in memory; clone() it first"
    else:
        return None
    return Problem(code="tensor-missing", where=name, message=reason)


def _laid_out(tensor: torch.Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Its shape and strides; none where it has no shape yet, or no element to write to."""
    if nn.parameter.is_lazy(tensor) or not tensor.numel():
        return (), ()
    return tuple(tensor.shape), tensor.stride()


class _Tensors:
    """What all targets have in common: tensors by name, and names of other state."""

    is_late = False

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._tensors, self._states = _split(state)

    def forms(self) -> dict[str, TensorForm]:
        return {name: _form(tensor) for name, tensor in self._tensors.items()}

    def states(self) -> frozenset[str]:
        return self._states

    def handled(
        self, stored: Mapping[str, TensorForm], versions: Mapping[str, int]
    ) -> frozenset[str]:
        return frozenset()

    def problems(self) -> tuple[Problem, ...]:
        found = (_unwritable(name, tensor) for name, tensor in self._tensors.items())
        return tuple(problem for problem in found if problem is not None)


class ModuleTarget(_Tensors):
    """A module, under the names that it has without wrappers."""

    def __init__(self, live: nn.Module) -> None:
        self._live = live
        try:
            self._state = live_state(live)
        except UnsavableStateError as error:
            raise CheckpointError(
                f"{error.where} takes no checkpoint as it is ({error.kind}): load into the bare "
                "module before it is wrapped or sharded"
            ) from error
        super().__init__(self._state.entries)

    def handled(
        self, stored: Mapping[str, TensorForm], versions: Mapping[str, int]
    ) -> frozenset[str]:
        raw = {self._raw(name): form for name, form in stored.items()}
        bare = {self._raw(name): name for name in (*stored, *self._state.raw)}
        return frozenset(
            bare[name]
            for path, place in self._state.paths.items()
            for name in handled(
                self._live.get_submodule(place),
                place,
                raw,
                dtypes=TORCH_DTYPES,
                version=versions.get(path, _VERSION),
            )
            if name in bare
        )

    def _raw(self, name: str) -> str:
        """The name that the live object uses, also for a tensor that it does not have."""
        if known := self._state.raw.get(name):
            return known
        path, _, last = name.rpartition(".")
        place = self._state.paths.get(path, path)
        return f"{place}.{last}" if place else last

    def fill(
        self,
        tensors: Mapping[str, torch.Tensor],
        states: Mapping[str, Any],
        versions: Mapping[str, int],
    ) -> None:
        own = {name: value for name, value in states.items() if not is_extra_state(name)}
        state: Any = OrderedDict(
            (self._raw(name), value) for name, value in {**tensors, **own}.items()
        )
        state._metadata = OrderedDict(
            (raw, {"version": versions.get(bare, _VERSION)})
            for bare, raw in self._state.paths.items()
        )
        # Names were compared already; what strict=True would add is the extra state, which follows.
        with written_to(self._tensors.values()):
            self._live.load_state_dict(state, strict=False)

    def finish(self, states: Mapping[str, Any]) -> None:
        for name, value in states.items():
            if is_extra_state(name):
                path = self._state.raw[name].removesuffix(EXTRA_STATE).removesuffix(".")
                self._live.get_submodule(path).set_extra_state(value)

    def drop_views(self, ranges: Iterable[tuple[int, int]]) -> None:
        spans = tuple(ranges)
        for module in self._live.modules():
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                if tensor is not None and _lies_in(tensor, spans):
                    tensor.data = tensor.data.clone()


class MappingTarget(_Tensors):
    """A plain state dict: its tensors are written into, everything else is replaced."""

    def __init__(self, live: MutableMapping[str, Any]) -> None:
        super().__init__(live)
        self._live = live

    def fill(
        self,
        tensors: Mapping[str, torch.Tensor],
        states: Mapping[str, Any],
        versions: Mapping[str, int],
    ) -> None:
        with written_to(self._tensors.values()), torch.no_grad():
            for name, tensor in tensors.items():
                self._tensors[name].copy_(tensor)
        self._live.update(states)

    def finish(self, states: Mapping[str, Any]) -> None:
        """Nothing of it is code."""

    def drop_views(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Nothing of it was replaced by a view."""


class ObjectTarget(_Tensors):
    """Any object with load_state_dict; it gets memory of its own, as it may keep what it gets."""

    is_late = True

    def __init__(self, live: Any) -> None:
        self._live = live
        give = getattr(live, "state_dict", None)
        state = give() if callable(give) else {}
        super().__init__(state if isinstance(state, Mapping) else {})
        self._given: OrderedDict[str, torch.Tensor] = OrderedDict()

    def problems(self) -> tuple[Problem, ...]:
        return ()

    def fill(
        self,
        tensors: Mapping[str, torch.Tensor],
        states: Mapping[str, Any],
        versions: Mapping[str, int],
    ) -> None:
        """Copies only: it is `finish` that gives them to the object."""
        self._given = OrderedDict(
            (name, tensor.to(self._tensors[name].device, copy=True))
            for name, tensor in tensors.items()
        )

    def finish(self, states: Mapping[str, Any]) -> None:
        given, self._given = self._given, OrderedDict()
        self._live.load_state_dict(OrderedDict({**given, **states}))

    def drop_views(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Nothing of it was given a view."""


def _lies_in(tensor: torch.Tensor, spans: tuple[tuple[int, int], ...]) -> bool:
    if nn.parameter.is_lazy(tensor) or tensor.device.type != "cpu":
        return False
    address = tensor.untyped_storage().data_ptr()
    return any(start <= address < end for start, end in spans)
