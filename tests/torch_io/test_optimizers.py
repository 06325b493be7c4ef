"""Which parameter is which in an optimizer, and what meta.json says of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.spec.documents import dump_json
from smartcash_format.torch_io.optimizers import describe_optimizer, parameter_names
from tests.torch_io.zoo import OPTIMIZERS, SCHEDULERS, fresh, scheduler

pytestmark = pytest.mark.torch


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def test_parameters_are_named_by_identity_in_the_order_of_their_groups() -> None:
    live = model()
    weights = [live.get_parameter("1.weight"), live.get_parameter("0.weight")]
    optimizer = torch.optim.SGD([{"params": weights}, {"params": [live.get_parameter("0.bias")]}])
    expected = [["1.weight", "0.weight"], ["0.bias"]]
    assert parameter_names(optimizer, {"model": live}) == expected
    assert parameter_names(optimizer, {"model": nn.DataParallel(live)}) == expected


def test_wrappers_inside_the_model_are_no_part_of_a_name() -> None:
    live = nn.Sequential(nn.DataParallel(nn.Linear(2, 3)), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(live.parameters())
    assert parameter_names(optimizer, {"model": live}) == [
        ["0.weight", "0.bias", "1.weight", "1.bias"]
    ]


def test_a_tied_parameter_has_its_first_name() -> None:
    live = nn.ModuleDict({"embed": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
    live["head"].weight = live["embed"].weight
    optimizer = torch.optim.SGD(live.parameters())
    assert parameter_names(optimizer, {"model": live}) == [["embed.weight"]]


def test_parameters_of_another_weight_set_stand_behind_its_name() -> None:
    live, critic = model(), nn.Linear(1, 1)
    critic.weight = live.get_parameter("1.bias")
    optimizer = torch.optim.SGD([*critic.parameters(), nn.Parameter(torch.zeros(1))])
    sets = {"critic": critic, "model": live}
    assert parameter_names(optimizer, sets) == [["1.bias", "critic:bias", None]]


def test_names_given_to_the_optimizer_serve_where_the_model_is_not_here() -> None:
    optimizer = torch.optim.SGD(model().named_parameters())
    names = [["0.weight", "0.bias", "1.weight", "1.bias"]]
    assert parameter_names(optimizer, {"model": {}}) == names
    assert parameter_names(optimizer.state_dict(), {"model": {}}) == names
    unnamed = torch.optim.SGD(model().parameters())
    assert parameter_names(unnamed, {"model": {}}) == [[None] * 4]
    assert parameter_names(unnamed.state_dict(), {"model": {}}) == [[None] * 4]


@pytest.mark.parametrize("state", [{}, {"param_groups": 3}, {"param_groups": [3]}, object()])
def test_what_has_no_groups_has_no_names(state: Any) -> None:
    assert parameter_names(state, {"model": model()}) == []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_settings_of_every_optimizer_have_a_json_form(name: str) -> None:
    training = fresh(name)
    record, warnings = describe_optimizer(training.optimizer)
    assert warnings == ()
    assert record.class_name == name
    (group,) = record.groups
    assert group.parameters == len(list(training.model.parameters()))
    (live,) = training.optimizer.param_groups
    assert set(group.hyperparameters) == set(live) - {"params"}
    assert group.hyperparameters["lr"] == live["lr"]
    dump_json(record.model_dump(mode="json"))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_settings_that_every_scheduler_adds_have_a_json_form(name: str) -> None:
    optimizer = fresh("SGD").optimizer
    scheduler(name, optimizer)
    assert describe_optimizer(optimizer)[1] == ()


def test_odd_settings_are_kept_with_a_warning_and_never_raise() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    group = {
        "params": [parameter],
        "lr": torch.tensor(0.5),
        "hook": print,
        "name": ("a", float("inf")),
        "x" * 300: 1,
    }
    record, (warning,) = describe_optimizer(torch.optim.SGD([group]))
    settings = record.groups[0].hyperparameters
    assert settings["lr"] == 0.5
    assert settings["name"] == ["a", "Infinity"]
    assert settings["x" * 256] == 1
    assert "optimizer.param_groups[0].hook" in warning


def test_a_state_dict_has_no_class() -> None:
    record, _ = describe_optimizer(torch.optim.SGD(model().parameters()).state_dict())
    assert record.class_name is None
    assert record.groups[0].parameters == 4
