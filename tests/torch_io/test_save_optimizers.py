"""Optimizers at a save: each is saved whole, and refused if no load would take it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec import layout
from smartcash_format.torch_io.load import load_checkpoint
from tests.torch_io.same import assert_same
from tests.torch_io.saving import is_whole, saved, state
from tests.torch_io.sources import small
from tests.torch_io.zoo import OPTIMIZERS, SCHEDULERS, fresh, scheduler, step_scheduler, stepped

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_saved_whole(name: str, tmp_path: Path) -> None:
    training = stepped(name)
    found = saved(tmp_path, training.model, optimizer=training.optimizer, rng=False)
    assert is_whole(found.path)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_is_saved_whole(name: str, tmp_path: Path) -> None:
    training = fresh("SGD")
    live = scheduler(name, training.optimizer)
    step_scheduler(live)
    found = saved(tmp_path, training.model, optimizer=training.optimizer, scheduler=live, rng=False)
    assert is_whole(found.path)
    assert found.warnings == ()


def wide(optimizer: torch.optim.Optimizer) -> None:
    next(iter(optimizer.state.values()))["exp_avg"] = torch.zeros(3)


def steep(optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0]["lr"] = float("nan")


def short(optimizer: torch.optim.Optimizer) -> None:
    del next(iter(optimizer.state.values()))["exp_avg_sq"]


def joined(optimizer: torch.optim.Optimizer) -> None:
    state = next(iter(optimizer.state.values()))
    state["exp_avg_sq"] = state["exp_avg"]


def counted_together(optimizer: torch.optim.Optimizer) -> None:
    first, second, *_ = optimizer.state.values()
    second["step"] = first["step"]


def overlapping(optimizer: torch.optim.Optimizer) -> None:
    state = next(iter(optimizer.state.values()))
    moment = state["exp_avg"]
    flat = torch.ones(2 * moment.numel() - 1)
    state["exp_avg"] = flat[: moment.numel()].view_as(moment)
    state["exp_avg_sq"] = flat[moment.numel() - 1 :].view_as(moment)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (joined, r"\['a'\]\['exp_avg_sq'\] lies in the same memory as \['a'\]\['exp_avg'\]"),
        (counted_together, r"\['step'\] lies in the same memory as "),
        (overlapping, r"\['a'\]\['exp_avg_sq'\] lies in the same memory"),
    ],
)
def test_moments_in_one_memory_are_refused_at_save(
    change: Callable[[torch.optim.Optimizer], None], words: str, tmp_path: Path
) -> None:
    training = stepped("AdamW")
    change(training.optimizer)
    with pytest.raises(UnsavableStateError, match=words):
        saved(tmp_path, training.model, optimizer=training.optimizer)
    with pytest.raises(UnsavableStateError, match=words):
        saved(tmp_path, training.model, extra={"second": training.optimizer})
    assert os.listdir(tmp_path) == []


def test_moments_beside_each_other_in_one_memory_are_saved(tmp_path: Path) -> None:
    training = stepped("AdamW")
    for own in training.optimizer.state.values():
        flat = torch.cat([own["exp_avg"].reshape(-1), own["exp_avg_sq"].reshape(-1)])
        first, second = flat.chunk(2)
        own["exp_avg"] = first.view_as(own["exp_avg"])
        own["exp_avg_sq"] = second.view_as(own["exp_avg_sq"])
    before = training.optimizer.state_dict()
    path = saved(tmp_path, training.model, optimizer=training.optimizer).path
    live = stepped("AdamW", steps=1)
    load_checkpoint(path, model=live.model, optimizer=live.optimizer)
    assert_same(live.optimizer.state_dict(), before)


@pytest.mark.parametrize(
    ("change", "words"),
    [(wide, r"state\[.a.\]\[.exp_avg.\]"), (steep, r"\['lr'\] is nan"), (short, "exp_avg_sq")],
)
def test_an_optimizer_that_no_load_would_take_is_refused_at_save(
    change: Callable[[torch.optim.Optimizer], None], words: str, tmp_path: Path
) -> None:
    training = stepped("AdamW")
    change(training.optimizer)
    with pytest.raises(UnsavableStateError, match=rf"^optimizer.*{words}"):
        saved(tmp_path, training.model, optimizer=training.optimizer)
    with pytest.raises(UnsavableStateError, match=r"^extra\['second'\]"):
        saved(tmp_path, training.model, extra={"second": training.optimizer})
    assert os.listdir(tmp_path) == []


class Own(torch.optim.Optimizer):
    """An optimizer of the user's, which keeps what it likes."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 1e9, "own": (None, "a", {"b": 1})})

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["history"] = deque([torch.zeros(5), None], maxlen=2)


def test_an_optimizer_of_the_users_own_is_saved_with_what_it_keeps(tmp_path: Path) -> None:
    model = small()
    optimizer = Own(model.parameters())
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.5
    found = saved(tmp_path, model, optimizer=optimizer)
    assert is_whole(found.path)
    history = state(found.path, layout.OPTIMIZER)["state"][0]["history"]
    assert type(history) is deque
    assert history.maxlen == 2
