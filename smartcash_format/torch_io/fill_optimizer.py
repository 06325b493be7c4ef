"""A live optimizer as values, and how it takes a state whose parameters were matched by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch

from smartcash_format.torch_io.fit_optimizer import OptimizerFit
from smartcash_format.torch_io.hyperparameters import STRUCTURE
from smartcash_format.torch_io.optimizer_form import LiveGroup, LiveOptimizer, Names
from smartcash_format.torch_io.optimizer_state import TABLE, ParameterForm


def live_optimizer(live: Any, names: Names) -> LiveOptimizer:
    """What a stored state has to fit; `names` as in tensors.json, None where unknown."""
    kind = type(live)
    of_torch = kind.__module__.partition(".")[0] == "torch" and kind.__name__ in TABLE
    return LiveOptimizer(
        class_name=f"{kind.__module__}.{kind.__qualname__}",
        torch_class=kind.__name__ if of_torch else None,
        groups=tuple(
            LiveGroup(
                parameters=tuple(
                    ParameterForm(
                        name=name, shape=tuple(parameter.shape), is_complex=parameter.is_complex()
                    )
                    for name, parameter in zip(group_names, group["params"], strict=True)
                ),
                hyperparameters={k: v for k, v in group.items() if k != "params"},
                accelerated=all(p.device.type != "cpu" for p in group["params"]),
            )
            for group_names, group in zip(names, live.param_groups, strict=True)
        ),
        defaults=frozenset(getattr(live, "defaults", {})),
    )


def fill_optimizer(
    live: Any,
    state: Mapping[str, Any],
    fit: OptimizerFit,
    *,
    dtypes: Sequence[Sequence[torch.dtype | None]],
) -> None:
    """Gives the live optimizer its state, by its own load_state_dict and in its own order.

    `dtypes` has, for each live group, the dtypes of the stored parameters where they are known.
    Torch casts every floating entry but `step` to its parameter's dtype. Where the checkpoint's
    parameter has that dtype too, such a cast would change what an uninterrupted run has (NAdam
    keeps mu_product in float32 beside float64 parameters), so the entry gets its own dtype back.
    """
    own = live.state_dict()
    live.load_state_dict(_arranged(own, state, fit))
    live_state = getattr(live, "state", None)
    if isinstance(live_state, Mapping):
        _restore_dtypes(live, live_state, state, fit, dtypes)


def _arranged(
    own: Mapping[str, Any], state: Mapping[str, Any], fit: OptimizerFit
) -> dict[str, Any]:
    stored_groups = state["param_groups"]
    ids = _ids(state)
    of_parameters = frozenset(ids)
    # Optimizers other than torch's may keep entries of their own beside those of parameters.
    entries = {key: value for key, value in state["state"].items() if key not in of_parameters}
    groups = []
    pairs = zip(own["param_groups"], fit.sources, fit.groups, fit.left, strict=True)
    for here, sources, stored_group, left in pairs:
        for own_id, source in zip(here["params"], sources, strict=True):
            if source is not None and ids[source] in state["state"]:
                entries[own_id] = state["state"][ids[source]]
        there = {} if stored_group is None else stored_groups[stored_group]
        groups.append(_group(here, there, left))
    return {**state, "state": entries, "param_groups": groups}


def _ids(state: Mapping[str, Any]) -> list[int]:
    return [i for group in state["param_groups"] for i in group["params"]]


def _group(
    here: Mapping[str, Any], there: Mapping[str, Any], left: frozenset[str]
) -> dict[str, Any]:
    """The stored hyperparameters over the live ones; parameters and their names stay as here."""
    taken = {
        key: _like(value, here.get(key))
        for key, value in there.items()
        if key not in left and key not in STRUCTURE
    }
    return {**here, **taken}


def _like(value: Any, here: Any) -> Any:
    """A number in the shape that the live group keeps it in: a tensor stays a tensor."""
    if isinstance(here, torch.Tensor):
        if isinstance(value, torch.Tensor):
            return value.to(device=here.device, copy=True)
        return torch.full_like(here, value)
    if isinstance(here, int | float) and isinstance(value, torch.Tensor):
        return value.item()
    return value


def _restore_dtypes(
    live: Any,
    live_state: Mapping[Any, Any],
    state: Mapping[str, Any],
    fit: OptimizerFit,
    dtypes: Sequence[Sequence[torch.dtype | None]],
) -> None:
    ids = _ids(state)
    for group, sources, known in zip(live.param_groups, fit.sources, dtypes, strict=True):
        for parameter, source, dtype in zip(group["params"], sources, known, strict=True):
            stored = None if source is None else state["state"].get(ids[source])
            now = live_state.get(parameter)
            if not (isinstance(stored, Mapping) and isinstance(now, MutableMapping)):
                continue
            known_dtypes = _moments(stored, parameter) if dtype is None else (dtype,)
            if parameter.dtype in known_dtypes:
                _restore_entries(now, stored)


def _moments(stored: Mapping[str, Any], parameter: torch.Tensor) -> Iterator[torch.dtype]:
    """The dtypes of what has the parameter's shape: they tell the stored parameter's own."""
    for value in stored.values():
        if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
            yield value.dtype


def _restore_entries(now: MutableMapping[str, Any], stored: Mapping[str, Any]) -> None:
    for key, value in stored.items():
        current = now.get(key)
        if not (isinstance(value, torch.Tensor) and isinstance(current, torch.Tensor)):
            continue
        if value.dtype != current.dtype and key != "step" and value.is_floating_point():
            now[key] = value.to(device=current.device)
