from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as lrs

from smartcash_format.torch_io.fit_scheduler import SchedulerFit, arranged, fit_scheduler
from tests.torch_io.zoo import SCHEDULERS, fresh, scheduler, step_scheduler


def live(name: str = "CosineAnnealingLR") -> Any:
    return scheduler(name, fresh("SGD").optimizer)


def codes(fit: SchedulerFit) -> list[str]:
    return [problem.where for problem in fit.problems]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_state_of_every_torch_scheduler_fits_a_fresh_one(name: str) -> None:
    saved = live(name)
    for _ in range(3):
        saved.optimizer.step() if hasattr(saved, "optimizer") else None
        step_scheduler(saved)
    here = live(name)
    fit = fit_scheduler(saved.state_dict(), here)
    assert fit.problems == ()
    assert fit.dropped == frozenset()
    here.load_state_dict(arranged(saved.state_dict(), here, fit.dropped))
    assert here.state_dict() == saved.state_dict()


@pytest.mark.attack(
    "load", "a scheduler's key that would replace a method or the optimizer", "scheduler-key"
)
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("key", ["step", "optimizer", "get_lr", "__class__", "state_dict"])
def test_a_key_that_would_replace_behaviour_is_refused(name: str, key: str) -> None:
    if key == "get_lr" and name in ("ChainedScheduler", "SequentialLR"):
        key = "load_state_dict"
    here = live(name)
    fit = fit_scheduler({**here.state_dict(), key: 1}, here)
    assert codes(fit) == [f"scheduler.{key}"]


def test_a_key_inside_a_nested_scheduler_is_looked_at_too() -> None:
    here = live("SequentialLR")
    state = here.state_dict()
    state["_schedulers"][1]["step"] = 1
    assert codes(fit_scheduler(state, here)) == ["scheduler._schedulers[1].step"]


def test_another_number_of_nested_schedulers_is_refused() -> None:
    here = live("ChainedScheduler")
    state = here.state_dict()
    state["_schedulers"].pop()
    assert codes(fit_scheduler(state, here)) == ["scheduler._schedulers"]


def test_keys_of_another_torch_are_dropped_kept_and_said() -> None:
    here = live("SequentialLR")
    state = here.state_dict()
    state["verbose"] = False
    state["_schedulers"][0]["verbose"] = False
    del state["last_epoch"]
    fit = fit_scheduler(state, here)
    assert fit.problems == ()
    assert fit.dropped == {("verbose",), ("_schedulers", 0, "verbose")}
    assert any("_schedulers[0].verbose, verbose dropped" in note for note in fit.notes)
    assert any("last_epoch, not in the checkpoint" in note for note in fit.notes)
    given = arranged(state, here, fit.dropped)
    assert "verbose" not in given
    assert "verbose" not in given["_schedulers"][0]
    assert given["last_epoch"] == here.last_epoch


@pytest.mark.parametrize(
    ("key", "value"),
    [("last_epoch", "x"), ("base_lrs", [1, 2, 3]), ("_last_lr", {}), ("T_max", [])],
)
def test_a_value_of_another_kind_is_refused(key: str, value: object) -> None:
    here = live()
    assert codes(fit_scheduler({**here.state_dict(), key: value}, here)) == [f"scheduler.{key}"]


class Decay:
    def __init__(self) -> None:
        self.rate = 0.9

    def __call__(self, epoch: int) -> float:
        return float(self.rate**epoch)


def test_the_state_of_a_callable_fits_the_callable_and_may_not_replace_its_methods() -> None:
    here = lrs.LambdaLR(fresh("SGD").optimizer, Decay())
    state = here.state_dict()
    assert state["lr_lambdas"] == [{"rate": 0.9}]
    assert fit_scheduler(state, here).problems == ()
    poisoned = {**state, "lr_lambdas": [{"__call__": 1, "rate": 0.5}]}
    assert codes(fit_scheduler(poisoned, here)) == ["scheduler.lr_lambdas[0].__call__"]
    assert codes(fit_scheduler({**state, "lr_lambdas": []}, here)) == ["scheduler.lr_lambdas"]


def test_a_callable_of_the_file_does_not_become_one_here() -> None:
    here = live("CyclicLR")
    state = {**here.state_dict(), "_scale_fn_custom": {"rate": 1}}
    assert codes(fit_scheduler(state, here)) == ["scheduler._scale_fn_custom[0]"]


class Own:
    """A scheduler of someone else's, whose state has a key like one of its methods."""

    def __init__(self) -> None:
        self.count = 0

    def step(self) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["step"]


def test_a_key_that_the_live_state_has_is_its_own_affair() -> None:
    assert fit_scheduler({"step": 3}, Own()).problems == ()


def test_what_is_no_mapping_is_refused() -> None:
    assert codes(fit_scheduler([1], live())) == ["scheduler"]
    assert codes(fit_scheduler(torch.zeros(2), live())) == ["scheduler"]


@pytest.mark.parametrize("state", [{}, {"a": 1}])
def test_a_state_with_nothing_of_the_live_scheduler_is_refused(state: dict[str, Any]) -> None:
    fit = fit_scheduler(state, live())
    assert [p.message for p in fit.problems] == ["has nothing of the state of a CosineAnnealingLR"]
    assert codes(fit) == ["scheduler"]


def test_a_scheduler_without_state_takes_none() -> None:
    class Stateless:
        def state_dict(self) -> dict[str, Any]:
            return {}

    assert fit_scheduler({}, Stateless()).problems == ()
