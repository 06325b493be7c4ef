"""Every optimizer and scheduler of torch.optim comes back, by parameter name, and goes on alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.errors import StateMismatchError
from smartcash_format.torch_io.load import load_checkpoint
from smartcash_format.torch_io.optimizer_state import FLAT_OPTIMIZERS
from tests.torch_io import handmade
from tests.torch_io.handmade import saved_training
from tests.torch_io.same import assert_same
from tests.torch_io.zoo import (
    OPTIMIZERS,
    SCHEDULERS,
    Training,
    fresh,
    scheduler,
    step_scheduler,
    stepped,
)

REORDERED = {"SparseAdam": "ba"}


def by_name(training: Training) -> dict[str, Any]:
    return {
        name: dict(training.optimizer.state.get(parameter, {}))
        for name, parameter in training.model.named_parameters()
    }


def assert_goes_on_alike(left: Training, right: Training) -> None:
    for seed in range(10, 13):
        assert left.step(seed) == right.step(seed)
    assert_same(dict(sorted(right.model.state_dict().items())), sorted_state(left.model))
    assert_same(by_name(right), by_name(left))


def sorted_state(model: nn.Module) -> dict[str, Any]:
    return dict(sorted(model.state_dict().items()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_comes_back_and_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    saved = stepped(name)
    path = saved_training(tmp_path, saved)
    loaded = fresh(name, lr=0.5)
    result = load_checkpoint(path, model=loaded.model, optimizer=loaded.optimizer)
    assert result.restored == ("model", "optimizer")
    assert_same(by_name(loaded), by_name(saved))
    assert_same(loaded.optimizer.state_dict(), saved.optimizer.state_dict())
    assert_goes_on_alike(saved, loaded)


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n not in FLAT_OPTIMIZERS])
def test_parameters_of_one_shape_in_another_order_get_their_own_moments(
    name: str, tmp_path: Path
) -> None:
    saved = stepped(name)
    path = saved_training(tmp_path, saved)
    loaded = fresh(name, REORDERED.get(name, "dbca"))
    load_checkpoint(path, model=loaded.model, optimizer=loaded.optimizer)
    assert_same(by_name(loaded), by_name(saved))
    assert_goes_on_alike(saved, loaded)


@pytest.mark.parametrize("name", sorted(FLAT_OPTIMIZERS))
def test_one_vector_over_all_parameters_in_another_order_is_refused(
    name: str, tmp_path: Path
) -> None:
    saved = stepped(name)
    path = saved_training(tmp_path, saved)
    loaded = fresh(name, "dbca")
    with pytest.raises(StateMismatchError, match="in another order here"):
        load_checkpoint(path, model=loaded.model, optimizer=loaded.optimizer)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["NAdam", "ASGD", "Adam", "RAdam"])
def test_state_of_another_dtype_than_its_parameter_keeps_its_own(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    def make() -> Training:
        made = fresh(name)
        made.model.to(dtype)
        return made

    saved = make()
    for seed in range(3):
        saved.step(seed)
    path = saved_training(tmp_path, saved)
    loaded = make()
    load_checkpoint(path, model=loaded.model, optimizer=loaded.optimizer)
    assert_same(by_name(loaded), by_name(saved))
    assert_goes_on_alike(saved, loaded)


def test_state_of_a_model_that_is_cast_is_cast_with_it(tmp_path: Path) -> None:
    saved = stepped("Adam")
    path = saved_training(tmp_path, saved)
    loaded = fresh("Adam")
    loaded.model.to(torch.float64)
    result = load_checkpoint(path, model=loaded.model, optimizer=loaded.optimizer)
    assert {cast.live for cast in result.cast} == {"F64"}
    parameter = next(iter(loaded.model.parameters()))
    assert loaded.optimizer.state[parameter]["exp_avg"].dtype is torch.float64
    assert loaded.optimizer.state[parameter]["step"].dtype is torch.float32


def groups_of(training: Training) -> torch.optim.Optimizer:
    model: Any = training.model
    return torch.optim.AdamW(
        [
            {"params": [model.a, model.b], "lr": 0.1, "name": "backbone"},
            {"params": [model.c, model.d, model.bias], "weight_decay": 0.5, "name": "head"},
        ]
    )


def test_groups_come_back_with_their_hyperparameters(tmp_path: Path) -> None:
    saved = fresh("AdamW")
    saved.optimizer = groups_of(saved)
    saved.step()
    path = saved_training(tmp_path, saved)
    loaded = fresh("AdamW")
    loaded.optimizer = groups_of(loaded)
    for group in loaded.optimizer.param_groups:
        group["lr"] = 9.0
    load_checkpoint(path, model=loaded.model, optimizer=loaded.optimizer)
    assert_same(loaded.optimizer.state_dict(), saved.optimizer.state_dict())


def test_an_optimizer_over_a_part_of_the_parameters_comes_back(tmp_path: Path) -> None:
    saved, loaded = fresh("SGD"), fresh("SGD")
    for training in (saved, loaded):
        model: Any = training.model
        training.optimizer = torch.optim.Adam([model.c, model.a])
    saved.step()
    path = saved_training(tmp_path, saved)
    load_checkpoint(path, model=loaded.model, optimizer=loaded.optimizer)
    assert_goes_on_alike(saved, loaded)


def test_names_are_those_of_the_optimizer_where_no_model_is_given(tmp_path: Path) -> None:
    def make(order: str) -> Training:
        training = fresh("Adam")
        named = dict(training.model.named_parameters())
        training.optimizer = torch.optim.Adam([(name, named[name]) for name in order])
        return training

    saved = make("abcd")
    saved.step()
    given = handmade.of(saved.model, saved.optimizer)
    given["names"] = [list("abcd")]
    path = handmade.write(tmp_path / "c", **given)
    loaded = make("dcba")
    result = load_checkpoint(path, optimizer=loaded.optimizer)
    assert not any("by position" in note for note in result.notes)
    assert_same(by_name(loaded), by_name(saved))
    assert loaded.optimizer.param_groups[0]["param_names"] == list("dcba")


def test_without_names_it_goes_by_position_and_the_report_says_so(tmp_path: Path) -> None:
    saved = stepped("Adam")
    given = handmade.of(saved.model, saved.optimizer)
    given["names"] = None
    path = handmade.write(tmp_path / "c", **given)
    loaded = fresh("Adam")
    result = load_checkpoint(path, model=loaded.model, optimizer=loaded.optimizer)
    assert any("by position" in note for note in result.notes)
    assert_same(by_name(loaded), by_name(saved))


def test_the_entries_of_older_and_newer_torch_are_no_obstacle(tmp_path: Path) -> None:
    saved = stepped("AdamW")
    state = saved.optimizer.state_dict()
    (group,) = state["param_groups"]
    del group["decoupled_weight_decay"], group["differentiable"]
    group["momentum_decay"] = 0.1
    given = handmade.of(saved.model, saved.optimizer)
    path = handmade.write(tmp_path / "c", **{**given, "optimizer": state})
    loaded = fresh("AdamW")
    result = load_checkpoint(path, model=loaded.model, optimizer=loaded.optimizer)
    assert any("momentum_decay" in note and "dropped" in note for note in result.notes)
    assert any("decoupled_weight_decay" in note and "stay" in note for note in result.notes)
    assert_same(loaded.optimizer.state_dict(), saved.optimizer.state_dict())


def test_a_learning_rate_stays_what_it_is_here_number_or_tensor(tmp_path: Path) -> None:
    saved = stepped("Adam", lr=torch.tensor(0.25))
    path = saved_training(tmp_path, saved)
    number, tensor = fresh("Adam"), fresh("Adam", lr=torch.tensor(0.5))
    load_checkpoint(path, optimizer=number.optimizer, model=number.model)
    load_checkpoint(path, optimizer=tensor.optimizer, model=tensor.model)
    assert number.optimizer.param_groups[0]["lr"] == 0.25
    assert type(number.optimizer.param_groups[0]["lr"]) is float
    assert_same(tensor.optimizer.param_groups[0]["lr"], torch.tensor(0.25))


def test_a_poisoned_rate_inside_a_tensor_is_refused_before_anything_changes(tmp_path: Path) -> None:
    saved = stepped("Adam", lr=torch.tensor(1e30))
    path = saved_training(tmp_path, saved)
    loaded = fresh("Adam")
    before = sorted_state(fresh("Adam").model)
    with pytest.raises(StateMismatchError) as caught:
        load_checkpoint(path, model=loaded.model, optimizer=loaded.optimizer)
    assert [problem.code for problem in caught.value.problems] == ["hyperparameter"]
    assert_same(sorted_state(loaded.model), before)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_comes_back_and_goes_on_alike(name: str, tmp_path: Path) -> None:
    saved = fresh("SGD")
    live = scheduler(name, saved.optimizer)
    for seed in range(3):
        saved.step(seed)
        step_scheduler(live)
    path = saved_training(tmp_path, saved, scheduler=live.state_dict())
    loaded = fresh("SGD")
    again = scheduler(name, loaded.optimizer)
    result = load_checkpoint(path, model=loaded.model, optimizer=loaded.optimizer, scheduler=again)
    assert result.restored == ("model", "optimizer", "scheduler")
    assert_same(again.state_dict(), live.state_dict())
    for seed in range(3):
        assert saved.step(seed) == loaded.step(seed)
        step_scheduler(live)
        step_scheduler(again)
        assert_same(loaded.optimizer.param_groups, saved.optimizer.param_groups)


def test_keys_of_another_torch_in_a_scheduler_are_dropped_and_reported(tmp_path: Path) -> None:
    saved = stepped("SGD")
    live = scheduler("StepLR", saved.optimizer)
    path = saved_training(tmp_path, saved, scheduler={**live.state_dict(), "verbose": False})
    loaded = fresh("SGD")
    again = scheduler("StepLR", loaded.optimizer)
    result = load_checkpoint(path, optimizer=loaded.optimizer, scheduler=again)
    assert any("verbose dropped" in note for note in result.notes)
    assert not hasattr(again, "verbose")
