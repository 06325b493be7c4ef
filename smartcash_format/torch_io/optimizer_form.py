"""Optimizers as values: a stored state dict and a live optimizer, before they are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from smartcash_format.spec.problems import Problem
from smartcash_format.torch_io.optimizer_state import ParameterForm, Shape

Names = Sequence[Sequence[str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGroup:
    """A parameter group of a state dict: the ids of its parameters and the rest."""

    ids: tuple[int, ...]
    hyperparameters: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOptimizer:
    """An optimizer's state dict, read: groups, and state by parameter id.

    `names` has each group's parameter names as tensors.json lists them, None where unknown;
    `shapes` what is known of the shapes of the parameters, by name.
    """

    class_name: str | None
    groups: tuple[StoredGroup, ...]
    state: Mapping[object, object]
    names: Names
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    key: str = "optimizer"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveGroup:
    """A parameter group of a live optimizer; `accelerated`: all of it is on an accelerator."""

    parameters: tuple[ParameterForm, ...]
    hyperparameters: Mapping[str, object]
    accelerated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptimizer:
    """A live optimizer as far as a stored state has to fit it.

    `torch_class` is its name in torch.optim, or None for a class of anyone else's, a subclass
    included; `defaults` are the hyperparameters its class has.
    """

    class_name: str | None
    torch_class: str | None
    groups: tuple[LiveGroup, ...]
    defaults: frozenset[str]


def read_stored(
    value: object,
    *,
    class_name: str | None,
    names: Names | None,
    shapes: Mapping[str, Shape],
    key: str = "optimizer",
) -> tuple[StoredOptimizer | None, tuple[Problem, ...]]:
    """The state dict as values, or what keeps it from being one. Data only, nothing is decoded."""

    def broken(message: str) -> tuple[None, tuple[Problem, ...]]:
        return None, (Problem(code="optimizer-state", where=key, message=message),)

    if not isinstance(value, Mapping):
        return broken("is no state dict")
    state, listed = value.get("state"), value.get("param_groups")
    if not isinstance(state, Mapping) or not isinstance(listed, list | tuple):
        return broken("has no 'state' and 'param_groups' as torch's state dicts have")
    groups = tuple(group for item in listed if (group := _stored_group(item)) is not None)
    if len(groups) != len(listed):
        return broken("has a parameter group without a list of parameter numbers")
    ids = [i for group in groups for i in group.ids]
    if len(set(ids)) != len(ids):
        return broken("lists a parameter number twice")
    counts = [len(group.ids) for group in groups]
    unnamed: Names = [[None] * count for count in counts]
    if names is not None and [len(group) for group in names] != counts:
        return broken("has other group sizes than tensors.json says")
    return (
        StoredOptimizer(
            class_name=class_name,
            groups=groups,
            state=state,
            names=unnamed if names is None else names,
            shapes=shapes,
            key=key,
        ),
        (),
    )


def _stored_group(item: object) -> StoredGroup | None:
    if not isinstance(item, Mapping):
        return None
    ids = item.get("params")
    if not isinstance(ids, list | tuple) or any(type(i) is not int for i in ids):
        return None
    rest = {k: v for k, v in item.items() if isinstance(k, str) and k != "params"}
    return StoredGroup(ids=tuple(ids), hyperparameters=rest)
