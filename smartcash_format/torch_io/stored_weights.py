"""Where the tensors of a module lie: in a weight set, or in a state dict of a torch file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch

from smartcash_format.spec import layout
from smartcash_format.torch_io.dtypes import DTYPES, TORCH_DTYPES
from smartcash_format.torch_io.fit_tensors import TensorForm
from smartcash_format.torch_io.hyperparameters import shape_of
from smartcash_format.torch_io.parts import Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a state lies: a torch file, and the keys that lead to it inside."""

    parts: Parts
    file: str
    keys: tuple[str, ...] = ()

    def data(self) -> Any:
        """The state as inert data."""
        return self._inside(self.parts.data(self.file))

    def value(self) -> Any:
        """The state with its types and values, in memory of its own."""
        return self._inside(self.parts.value(self.file))

    def _inside(self, value: Any) -> Any:
        for key in self.keys:
            value = value[key]
        return value


class StoredWeights(Protocol):
    """Tensors by name, and what else a module keeps by name."""

    @property
    def origin(self) -> str:
        """What they were saved from, in a few words."""

    @property
    def versions(self) -> Mapping[str, int]:
        """The version of each module whose version is not 1."""

    def forms(self) -> dict[str, TensorForm]:
        """Dtype and shape of every tensor, without its values."""

    def states(self) -> frozenset[str]:
        """The names of what is no tensor."""

    def tensors(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The values of these tensors, perhaps as views of a file."""

    def make_ready(self) -> None:
        """Reads and decodes whatever would otherwise fail while live objects are filled."""

    def state_values(self) -> Mapping[str, Any]:
        """What is no tensor, by name, with its types."""

    def ranges(self) -> list[tuple[int, int]]:
        """The addresses that views lie in."""


class WeightSetInFile:
    """A weight set of the checkpoint: safetensors files, and entries of extra.pt."""

    def __init__(self, parts: Parts, name: str) -> None:
        self._parts = parts
        self._name = name

    @property
    def origin(self) -> str:
        meta = self._parts.meta
        saved = meta.weights[self._name].class_name or "a plain state dict"
        backbone = f", backbone {meta.backbone}" if meta.backbone else ""
        return f"{saved}{backbone}, epoch {meta.epoch}"

    @property
    def versions(self) -> Mapping[str, int]:
        return self._parts.weight_set(self._name).modules

    def forms(self) -> dict[str, TensorForm]:
        return self._parts.forms(self._name)

    def states(self) -> frozenset[str]:
        return frozenset(self._modules(self._parts.data)) if self._has_extra() else frozenset()

    def tensors(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        return self._parts.tensors(self._name, names)

    def make_ready(self) -> None:
        self._parts.make_ready(self._name)

    def state_values(self) -> Mapping[str, Any]:
        return self._modules(self._parts.value) if self._has_extra() else {}

    def ranges(self) -> list[tuple[int, int]]:
        return self._parts.ranges()

    def _has_extra(self) -> bool:
        return self._parts.has(layout.EXTRA)

    def _modules(self, read: Any) -> Mapping[str, Any]:
        found = read(layout.EXTRA).get(layout.MODULES, {}).get(self._name, {})
        return found if isinstance(found, Mapping) else {}


def leave_out_idle_extra(parts: Parts, weight_set: str) -> None:
    """Where the set has no state but tensors, extra.pt is not needed for its sake: no byte of it.

    Only the program of extra.pt tells, so that was read.
    """
    if not WeightSetInFile(parts, weight_set).states():
        parts.leave_out(layout.EXTRA)


class StateDictInFile:
    """A state dict that was saved as one, where the live object is a module."""

    versions: Mapping[str, int] = {}

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def origin(self) -> str:
        return f"a plain state dict, epoch {self._source.parts.meta.epoch}"

    @cached_property
    def _forms(self) -> dict[str, TensorForm]:
        return {
            name: TensorForm(dtype=_spelled(value.dtype), shape=shape)
            for name, value in self._entries().items()
            if (shape := shape_of(value)) is not None
        }

    def forms(self) -> dict[str, TensorForm]:
        return dict(self._forms)

    def states(self) -> frozenset[str]:
        return frozenset(self._entries().keys() - self._forms.keys())

    def tensors(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        values = self._source.value()
        return {name: values[name] for name in names}

    def make_ready(self) -> None:
        self._source.value()

    def state_values(self) -> Mapping[str, Any]:
        values = self._source.value()
        return {name: values[name] for name in self.states()}

    def ranges(self) -> list[tuple[int, int]]:
        return []

    def _entries(self) -> dict[str, Any]:
        data = self._source.data()
        if not isinstance(data, Mapping):
            return {}
        return {name: value for name, value in data.items() if isinstance(name, str)}


def _spelled(dtype: object) -> str:
    """A dtype as safetensors spells it; complex128, which it lacks, as torch prints it."""
    text = str(dtype)
    if text in TORCH_DTYPES:
        return text
    known = getattr(torch, "complex128" if text == "C128" else text, None)
    return DTYPES.get(known, str(known)) if isinstance(known, torch.dtype) else text
