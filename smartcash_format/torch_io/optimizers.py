"""Which parameter is which in an optimizer: names by identity, because torch keeps positions only.

`Optimizer.load_state_dict` gives reordered parameters of one shape each other's moments without an
error (pytorch#1489); names that were saved beside the state tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

from smartcash_format.spec import layout, limits
from smartcash_format.spec.meta import OptimizerRecord, ParameterGroup
from smartcash_format.spec.plain import to_json
from smartcash_format.torch_io.weights import Named, bare_named_parameters

GroupNames = list[list[str | None]]
# What a group says of its parameters; the rest are hyperparameters.
PARAMS: Final = "params"
PARAM_NAMES: Final = "param_names"
GROUPS: Final = "param_groups"


def parameter_names(optimizer: object, modules: Mapping[str, object]) -> GroupNames:
    """The name of every parameter per group, in order; None where nobody knows it.

    By identity over the parameters of `modules` (weight set to live module), else the optimizer's
    own `param_names` (torch 2.6, when it was built from named parameters). Names in a set other
    than the model stand behind `<set>:`.
    """
    named = {
        name: bare_named_parameters(module)
        for name, module in modules.items()
        if isinstance(module, torch.nn.Module)
    }
    return names_among(optimizer, named)


def names_among(optimizer: object, named: Mapping[str, Named]) -> GroupNames:
    """The same of modules whose parameters have been named."""
    names: dict[int, str] = {}
    # The model comes first: a parameter that it shares with another set has the model's name.
    for weight_set in sorted(named, key=lambda name: name != layout.MODEL):
        prefix = "" if weight_set == layout.MODEL else f"{weight_set}:"
        for name, parameter in named[weight_set]:
            names.setdefault(id(parameter), prefix + name)
    return [_group_names(group, names) for group in groups_of(optimizer)]


def _group_names(group: Mapping[str, Any], names: Mapping[int, str]) -> list[str | None]:
    own = group.get(PARAM_NAMES)
    members = list(group.get(PARAMS, ()))
    given: Sequence[object] = own if isinstance(own, Sequence) else ()
    found: list[str | None] = []
    for index, member in enumerate(members):
        name = names.get(id(member)) if isinstance(member, torch.Tensor) else None
        if name is None and len(given) == len(members) and isinstance(given[index], str):
            name = str(given[index])
        found.append(name)
    return found


def groups_of(optimizer: object) -> list[Mapping[str, Any]]:
    """The parameter groups of a live optimizer or of its state dict; none where it has none."""
    if isinstance(optimizer, Mapping):
        groups = optimizer.get(GROUPS)
    else:
        groups = getattr(optimizer, GROUPS, None)
    if not isinstance(groups, Sequence):
        return []
    return [group for group in groups if isinstance(group, Mapping)]


def describe_optimizer(optimizer: object) -> tuple[OptimizerRecord, tuple[str, ...]]:
    """What meta.json says of an optimizer, and a sentence for each value without a JSON form."""
    groups = []
    warnings: list[str] = []
    for index, group in enumerate(groups_of(optimizer)):
        values = {key: value for key, value in group.items() if key not in (PARAMS, PARAM_NAMES)}
        plain = to_json(values, name=f"optimizer.{GROUPS}[{index}]")
        warnings += plain.warnings
        settings = plain.value if isinstance(plain.value, dict) else {}
        settings = {key[: limits.SHORT_TEXT]: value for key, value in settings.items()}
        groups.append(
            ParameterGroup(parameters=len(group.get(PARAMS, ())), hyperparameters=settings)
        )
    class_name = None if isinstance(optimizer, Mapping) else type(optimizer).__name__
    return OptimizerRecord(class_name=class_name, groups=groups), tuple(warnings)
