"""Whole modules of packages that are not here, as modules that only carry tensors.

A pickled module keeps its tensors in `_modules`, `_parameters` and `_buffers`: walking them gives
what its state_dict() would have given, bit for bit, and no method of it is needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import nn

from smartcash_format.errors import UnsavableStateError
from smartcash_format.integrations.legacy_pt import Standin

_TORCH: Final = "torch.nn.modules."
# What wraps a model as its attribute `module` while it trains on several devices.
_WRAPPERS: Final = (
    "torch.nn.parallel.data_parallel.DataParallel",
    "torch.nn.parallel.distributed.DistributedDataParallel",
)
# torch nests modules as deep as Python's recursion allows; nobody's model is that deep.
_DEPTH: Final = 100


class Carrier(nn.Module):
    """A module of named tensors: what torch_io.save takes for a weight set."""

    def __init__(
        self, entries: Mapping[str, torch.Tensor], versions: Mapping[str, Mapping[str, Any]]
    ) -> None:
        super().__init__()
        for name, tensor in entries.items():
            # Names with dots are those of inner modules, which are not here.
            if isinstance(tensor, nn.Parameter):
                self._parameters[name] = tensor
            else:
                self._buffers[name] = tensor
        self._order = tuple(entries)
        self._versions = versions

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The tensors in their order, with the versions of the modules."""
        tensors = {**self._parameters, **self._buffers}
        state = OrderedDict((name, tensors[name].detach()) for name in self._order)  # type: ignore[union-attr]
        state._metadata = dict(self._versions)  # type: ignore[attr-defined]
        return state


def is_module(value: object) -> bool:
    """Whether a value is a stand-in for a whole module."""
    return isinstance(value, Standin) and "_modules" in value.attributes


def carrier_of(module: Standin, dropped: list[str], where: str) -> Carrier:
    """The tensors of a whole module; what of it is no tensor goes to `dropped`."""
    while module.class_name in _WRAPPERS and is_module(inner := _inner(module)):
        module = inner
    entries: dict[str, torch.Tensor] = {}
    versions: dict[str, dict[str, Any]] = {}
    for path, inner in _walk(module, "", 0):
        prefix = f"{path}." if path else ""
        versions[path] = {"version": _version(inner)}
        transient = set(inner.attributes.get("_non_persistent_buffers_set") or ())
        for kind in ("_parameters", "_buffers"):
            for name, tensor in (inner.attributes.get(kind) or {}).items():
                if isinstance(tensor, torch.Tensor) and name in transient:
                    dropped.append(f"{where}.{prefix}{name}: a buffer that no state_dict has")
                elif isinstance(tensor, torch.Tensor):
                    entries[f"{prefix}{name}"] = tensor
    dropped.append(f"{where}: the code of {module.class_name}; the tensors are kept")
    return named(module.class_name, entries, versions)


def carrier_of_state(state: Mapping[str, Any]) -> Carrier:
    """A state dict as a module: nothing says which of its tensors are parameters."""
    versions = getattr(state, "_metadata", {"": {"version": 1}})
    return named(
        "StateDict",
        {
            name: nn.Parameter(value, requires_grad=False)
            for name, value in state.items()
            if isinstance(value, torch.Tensor)
        },
        versions,
    )


def named(
    class_name: str, entries: Mapping[str, torch.Tensor], versions: Mapping[str, Any]
) -> Carrier:
    """A carrier whose class has the last part of this name, as meta.json tells it."""
    made = type(class_name.rpartition(".")[2], (Carrier,), {})
    carrier: Carrier = made(entries, versions)
    return carrier


def _inner(module: Standin) -> Any:
    return (module.attributes.get("_modules") or {}).get("module")


def _walk(module: Standin, path: str, depth: int) -> Iterator[tuple[str, Standin]]:
    if depth > _DEPTH:
        raise UnsavableStateError(
            f"{module.class_name} nests deeper than {_DEPTH} modules", where=path, kind="module"
        )
    yield path, module
    for name, inner in (module.attributes.get("_modules") or {}).items():
        if isinstance(inner, Standin):
            yield from _walk(inner, f"{path}.{name}" if path else str(name), depth + 1)


def _version(module: Standin) -> int:
    """The version of a module's state: an attribute of the class, which for torch's own is here."""
    if not module.class_name.startswith(_TORCH):
        return 1
    found = getattr(nn, module.class_name.rpartition(".")[2], None)
    version = getattr(found, "_version", 1)
    return version if isinstance(version, int) else 1
