"""What torch's own optimizers, schedulers and scaler keep comes back exactly, types included."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as lrs

from smartcash_format.errors import UnsavableStateError
from smartcash_format.torch_io.archive import to_archive
from smartcash_format.torch_io.state import decode, encode
from tests.torch_io.written import same_bits, write_archive
from tests.torch_io.zoo import (
    OPTIMIZERS,
    SCHEDULERS,
    fresh,
    scheduler,
    step_scheduler,
    stepped,
)

pytestmark = pytest.mark.torch


def through_a_file(state: Any, directory: Path) -> Any:
    path = write_archive(directory, *to_archive(encode(state, "state")))
    return decode(torch.load(path, weights_only=True))


def differences(left: Any, right: Any, where: str = "state") -> list[str]:
    """Where two states differ in type, value, bits, strides or order; nothing if nowhere."""
    if type(left) is not type(right):
        return [f"{where}: {type(left).__name__} is {type(right).__name__}"]
    if isinstance(left, torch.Tensor):
        alike = same_bits(left, right) and left.stride() == right.stride()
        return [] if alike else [f"{where}: another tensor"]
    if isinstance(left, dict):
        if list(left) != list(right):
            return [f"{where}: {list(left)} is {list(right)}"]
        return [d for k in left for d in differences(left[k], right[k], f"{where}[{k!r}]")]
    if isinstance(left, list | tuple):
        if len(left) != len(right):
            return [f"{where}: {len(left)} is {len(right)}"]
        pairs = enumerate(zip(left, right, strict=True))
        return [d for i, (one, other) in pairs for d in differences(one, other, f"{where}[{i}]")]
    if isinstance(left, float) and math.isnan(left):
        return [] if math.isnan(right) else [f"{where}: NaN is {right}"]
    return [] if left == right else [f"{where}: {left!r} is {right!r}"]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 3])
def test_the_state_of_every_optimizer_comes_back(name: str, steps: int, tmp_path: Path) -> None:
    state = stepped(name, steps=steps).optimizer.state_dict()
    assert differences(through_a_file(state, tmp_path), state) == []


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam"])
def test_a_learning_rate_that_is_a_tensor_comes_back_as_one(name: str, tmp_path: Path) -> None:
    optimizer = stepped(name, lr=torch.tensor(0.01), capturable=False).optimizer
    state = optimizer.state_dict()
    assert differences(through_a_file(state, tmp_path), state) == []


def test_names_and_own_entries_of_groups_come_back(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    groups: list[dict[str, Any]] = [
        {"params": [("weight", model.weight)], "name": "heads", "betas": (0.9, 0.99)},
        {"params": [("bias", model.bias)], "own": [1, (2, None)]},
    ]
    state = torch.optim.AdamW(groups).state_dict()
    assert differences(through_a_file(state, tmp_path), state) == []


def test_moments_keep_the_strides_of_channels_last(tmp_path: Path) -> None:
    conv: Any = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(conv.parameters())
    conv(torch.randn(1, 4, 5, 5)).sum().backward()
    optimizer.step()
    found = through_a_file(optimizer.state_dict(), tmp_path)
    moment = found["state"][0]["exp_avg"]
    assert moment.is_contiguous(memory_format=torch.channels_last)
    assert differences(found, optimizer.state_dict()) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.complex64])
def test_moments_of_any_dtype_come_back(dtype: torch.dtype, tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(3, dtype=dtype))
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.full_like(parameter, 0.5)
    optimizer.step()
    state = optimizer.state_dict()
    assert differences(through_a_file(state, tmp_path), state) == []


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [0, 3])
def test_the_state_of_every_scheduler_comes_back(name: str, steps: int, tmp_path: Path) -> None:
    live = scheduler(name, fresh("SGD").optimizer)
    for _ in range(steps):
        step_scheduler(live)
    state = live.state_dict()
    assert differences(through_a_file(state, tmp_path), state) == []


def test_a_scheduler_inside_a_scheduler_inside_a_scheduler_comes_back(tmp_path: Path) -> None:
    optimizer = fresh("SGD").optimizer
    inner = scheduler("SequentialLR", optimizer)
    outer = lrs.ChainedScheduler([inner, scheduler("MultiStepLR", optimizer)])
    step_scheduler(outer)
    state = outer.state_dict()
    found = through_a_file(state, tmp_path)
    assert differences(found, state) == []
    assert type(found["_schedulers"][1]["milestones"]) is Counter
    # As earlier versions wrote it.
    assert type(decode({"milestones": Counter([30, 80])})["milestones"]) is Counter


class Warmup:
    """A schedule that is an object: torch keeps what it holds, not the object."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.seen = {1, 2}

    def __call__(self, epoch: int) -> float:
        return min(1.0, epoch / self.steps)


def test_what_a_callable_schedule_holds_comes_back(tmp_path: Path) -> None:
    live = lrs.LambdaLR(fresh("SGD").optimizer, Warmup(5))
    state = live.state_dict()
    found = through_a_file(state, tmp_path)
    assert found["lr_lambdas"] == [{"steps": 5, "seen": {1, 2}}]
    assert differences(found, state) == []


def test_a_function_that_a_scheduler_keeps_is_refused_by_name() -> None:
    live: Any = lrs.StepLR(fresh("SGD").optimizer, 2)
    live.after = [lambda: 0]
    with pytest.raises(UnsavableStateError, match=r"^scheduler\['after'\]\[0\] is a .*function"):
        encode(live.state_dict(), "scheduler")


@pytest.mark.parametrize("enabled", [True, False])
def test_the_state_of_a_gradient_scaler_comes_back(enabled: bool, tmp_path: Path) -> None:
    state = torch.amp.GradScaler("cpu", enabled=enabled).state_dict()
    assert differences(through_a_file(state, tmp_path), state) == []


def test_the_state_of_averaged_weights_comes_back_as_a_plain_dict(tmp_path: Path) -> None:
    state = torch.optim.swa_utils.AveragedModel(nn.BatchNorm1d(2)).state_dict()
    assert differences(through_a_file(state, tmp_path), dict(state)) == []


def test_the_scheduler_of_averaged_weights_comes_back(tmp_path: Path) -> None:
    live = torch.optim.swa_utils.SWALR(fresh("SGD").optimizer, swa_lr=0.05)
    state = live.state_dict()
    assert differences(through_a_file(state, tmp_path), state) == []
