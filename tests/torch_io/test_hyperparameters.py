from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from smartcash_format.torch_io.hyperparameters import (
    OF_SCHEDULERS,
    RULES,
    STRUCTURE,
    hyperparameter_problems,
    same_kind,
    torch_only,
)
from tests.torch_io.zoo import OPTIMIZERS, stepped

ADAM = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))]).defaults


def wrong(
    stored: dict[str, Any], live: dict[str, Any] = ADAM, *, of_torch: bool = True
) -> list[str]:
    defaults = tuple(ADAM) if of_torch else ()
    return [
        problem.where
        for problem in hyperparameter_problems(stored, live, where="", torch_defaults=defaults)
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_every_torch_optimizer_has_passes_its_own_rules(name: str) -> None:
    optimizer = stepped(name).optimizer
    group = {k: v for k, v in optimizer.param_groups[0].items() if k not in STRUCTURE}
    problems = hyperparameter_problems(
        group, group, where="", torch_defaults=tuple(optimizer.defaults)
    )
    assert list(problems) == []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_hyperparameter_of_every_torch_optimizer_has_a_rule(name: str) -> None:
    assert stepped(name).optimizer.defaults.keys() <= RULES.keys()


@pytest.mark.attack("load", "hyperparameters of a wrong type or range", "hyperparameter")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", 1e30),
        ("lr", math.nan),
        ("lr", "0.1"),
        ("lr", True),
        ("lr", None),
        ("lr", 10**400),
        ("betas", (2, 5)),
        ("betas", (0.9,)),
        ("betas", 0.9),
        ("betas", (0.9, "0.99")),
        ("eps", -1.0),
        ("weight_decay", math.inf),
        ("amsgrad", 1),
        ("foreach", "yes"),
        ("fused", 0),
        ("initial_lr", "x"),
        ("invented", 1),
    ],
)
def test_a_poisoned_hyperparameter_is_named(key: str, value: object) -> None:
    assert wrong({key: value}) == [f"[{key!r}]"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", 0),
        ("lr", torch.tensor(0.1)),
        ("lr", -1e-20),
        ("betas", [0.0, 0.5]),
        ("betas", (torch.tensor(0.9), 0.99)),
        ("weight_decay", torch.tensor(0.1)),
        ("fused", None),
        ("foreach", True),
        ("max_momentum", 0.95),
    ],
)
def test_what_a_training_may_have_passes(key: str, value: object) -> None:
    assert wrong({key: value}) == []


def test_the_users_own_key_passes_with_the_kind_it_has_here() -> None:
    live = {**ADAM, "name": "backbone", "lr_scale": 1.0}
    assert wrong({"name": "head", "lr_scale": 2}, live) == []
    assert wrong({"name": 1, "lr_scale": "2"}, live) == ["['name']", "['lr_scale']"]


def test_a_key_of_another_torch_version_is_dropped_and_no_problem() -> None:
    assert wrong({"momentum_decay": 0.1}) == []
    assert torch_only({"momentum_decay": 0.1, "lr": 1}, ADAM) == ("momentum_decay",)


def test_a_foreign_optimizer_is_compared_by_kind_and_its_rate_by_range() -> None:
    live = {"lr": 0.1, "trust": (1, 2), "mode": "a"}
    assert wrong({"lr": 0.2, "trust": (3, 4), "mode": "b"}, live, of_torch=False) == []
    stored = {"lr": 1e30, "trust": (3,), "mode": 1, "amsgrad": True}
    expected = ["['lr']", "['trust']", "['mode']", "['amsgrad']"]
    assert wrong(stored, live, of_torch=False) == expected


def test_entries_of_schedulers_are_taken_whether_or_not_a_scheduler_is_here_yet() -> None:
    assert wrong(dict.fromkeys(OF_SCHEDULERS, 0.5)) == []


@pytest.mark.parametrize(
    ("stored", "live", "alike"),
    [
        (1, 2.0, True),
        (True, 1, False),
        (None, 3, True),
        ([1, 2], None, True),
        ([1, 2], [3.0, 4.0], True),
        ([1, 2], [3.0], False),
        ([], [3.0], True),
        ([{"a": 1}], [{"a": 1}, {"a": 2}], True),
        (["x"], [1], False),
        ({"a": 1}, {}, True),
        (1, {}, False),
        (torch.zeros(2), torch.zeros(2), True),
        (torch.zeros(3), torch.zeros(2), False),
        (torch.zeros(()), 0.5, True),
        ("a", b"a", False),
        (1, print, False),
    ],
)
def test_values_are_alike_in_kind(stored: object, live: object, alike: bool) -> None:
    assert same_kind(stored, live) is alike
