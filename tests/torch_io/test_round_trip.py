"""Saved and loaded: a resumed run is bit for bit the one that was never interrupted."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from smartcash_format.errors import StateMismatchError
from smartcash_format.torch_io.dtypes import DTYPES
from smartcash_format.torch_io.load import load_checkpoint
from tests.torch_io.saving import saved
from tests.torch_io.sources import bits, small
from tests.torch_io.test_state import VALUES, same
from tests.torch_io.test_state_of_torch import differences
from tests.torch_io.written import same_bits
from tests.torch_io.zoo import (
    OPTIMIZERS,
    SCHEDULERS,
    Training,
    fresh,
    scheduler,
    step_scheduler,
    stepped,
)

pytestmark = pytest.mark.torch

INSIDE = [name for name in SCHEDULERS if name != "ReduceLROnPlateau"]


def scrambled(training: Training) -> Training:
    """The same with other weights: what a new process has before it loads."""
    with torch.no_grad():
        for parameter in training.model.parameters():
            parameter.add_(1.0)
    return training


def state_of(training: Training) -> dict[str, Any]:
    return {
        "model": dict(training.model.state_dict()),
        "optimizer": training.optimizer.state_dict(),
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_as_if_never_interrupted(name: str, tmp_path: Path) -> None:
    straight = stepped(name, steps=3)
    path = saved(tmp_path, straight.model, optimizer=straight.optimizer).path
    resumed = scrambled(fresh(name))
    load_checkpoint(path, model=resumed.model, optimizer=resumed.optimizer)
    assert differences(state_of(resumed), state_of(straight)) == []
    losses = [[each.step(seed) for seed in range(3, 6)] for each in (straight, resumed)]
    assert losses[0] == losses[1]
    assert differences(state_of(resumed), state_of(straight)) == []


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_goes_on_as_if_never_interrupted(name: str, tmp_path: Path) -> None:
    runs = []
    straight = fresh("SGD")
    schedule = scheduler(name, straight.optimizer)
    for seed in range(3):
        straight.step(seed)
        step_scheduler(schedule)
    path = saved(tmp_path, straight.model, optimizer=straight.optimizer, scheduler=schedule).path
    resumed = scrambled(fresh("SGD"))
    again = scheduler(name, resumed.optimizer)
    load_checkpoint(path, model=resumed.model, optimizer=resumed.optimizer, scheduler=again)
    for training, live in ((straight, schedule), (resumed, again)):
        rates = []
        for seed in range(3, 8):
            training.step(seed)
            step_scheduler(live)
            rates.append([group["lr"] for group in training.optimizer.param_groups])
        runs.append(rates)
    assert runs[0] == runs[1]
    assert differences(state_of(resumed), state_of(straight)) == []
    assert differences(again.state_dict(), schedule.state_dict()) == []


@pytest.mark.parametrize("order", ["dcba", "badc"])
@pytest.mark.parametrize("name", ["Adam", "SGD", "Adagrad"])
def test_reordered_parameters_of_one_shape_get_their_own_moments(
    name: str, order: str, tmp_path: Path
) -> None:
    straight = stepped(name)
    path = saved(tmp_path, straight.model, optimizer=straight.optimizer).path
    resumed = scrambled(fresh(name, order))
    load_checkpoint(path, model=resumed.model, optimizer=resumed.optimizer)
    assert straight.step(7) == resumed.step(7)
    for parameter, moment in straight.model.named_parameters():
        assert same_bits(moment, resumed.model.get_parameter(parameter))


def test_an_optimizer_over_a_part_of_the_parameters_goes_on(tmp_path: Path) -> None:
    def frozen() -> Training:
        training = fresh("Adam")
        training.model.get_parameter("a").requires_grad_(False)
        trained = [p for n, p in training.model.named_parameters() if n in "cb"]
        groups: list[dict[str, Any]] = [{"params": trained[:1], "lr": 0.1}, {"params": trained[1:]}]
        training.optimizer = torch.optim.AdamW(groups, lr=0.01)
        return training

    straight = frozen()
    straight.step(0)
    path = saved(tmp_path, straight.model, optimizer=straight.optimizer).path
    resumed = scrambled(frozen())
    load_checkpoint(path, model=resumed.model, optimizer=resumed.optimizer)
    assert straight.step(1) == resumed.step(1)
    assert differences(state_of(resumed), state_of(straight)) == []


@pytest.mark.parametrize("dtype", list(DTYPES), ids=str)
def test_a_buffer_of_every_dtype_comes_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    def module(value: torch.Tensor) -> nn.Module:
        live = nn.Module()
        live.register_buffer("value", value)
        live.register_buffer("none", value[:0])
        return live

    value = bits(dtype, 4, 3)
    path = saved(tmp_path, module(value)).path
    live = module(torch.zeros(12 * dtype.itemsize, dtype=torch.uint8).view(dtype).view(4, 3))
    load_checkpoint(path, model=live)
    assert same_bits(live.get_buffer("value"), value)


def test_buffers_that_view_one_storage_come_back_each_with_its_values(tmp_path: Path) -> None:
    def module(base: torch.Tensor) -> nn.Module:
        live = nn.Module()
        for name, view in {"base": base, "rest": base[3:], "turned": base.view(2, 3).t()}.items():
            live.register_buffer(name, view)
        return live

    path = saved(tmp_path, module(torch.arange(6.0))).path
    live = module(torch.zeros(6))
    load_checkpoint(path, model=live)
    assert live.get_buffer("base").tolist() == [0, 1, 2, 3, 4, 5]
    assert live.get_buffer("rest").tolist() == [3, 4, 5]
    assert live.get_buffer("turned").tolist() == [[0, 3], [1, 4], [2, 5]]


def tied() -> nn.Module:
    live = nn.ModuleDict({"embed": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
    live["head"].weight = live["embed"].weight
    return live


def test_tied_weights_are_tied_again(tmp_path: Path) -> None:
    model = tied()
    path = saved(tmp_path, model).path
    live = tied()
    load_checkpoint(path, model=live)
    assert live.get_parameter("head.weight") is live.get_parameter("embed.weight")
    assert same_bits(live.get_parameter("embed.weight"), model.get_parameter("embed.weight"))
    state: Any = load_checkpoint(path)["model_state_dict"]
    assert state["head.weight"] is state["embed.weight"]


def test_weights_that_were_tied_fit_a_model_where_they_are_not(tmp_path: Path) -> None:
    model = tied()
    path = saved(tmp_path, model).path
    apart = nn.ModuleDict({"embed": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
    load_checkpoint(path, model=apart)
    assert same_bits(apart.get_parameter("head.weight"), model.get_parameter("embed.weight"))


class Versioned(nn.Module):
    """A module whose state has a version of its own, and state that is no tensor."""

    _version = 3

    def __init__(self, seen: Any = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = seen
        self.loaded_from: Any = "nothing"

    def get_extra_state(self) -> Any:
        return self.seen

    def set_extra_state(self, state: Any) -> None:
        self.seen = state

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
        self.loaded_from = metadata.get("version")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_versions_and_extra_state_of_modules_come_back(tmp_path: Path) -> None:
    seen = {"classes": {1, 2}, "counts": np.arange(3), "last": torch.ones(2)}
    path = saved(tmp_path, nn.Sequential(Versioned(seen), nn.Linear(1, 1))).path
    live = nn.Sequential(Versioned(), nn.Linear(1, 1))
    load_checkpoint(path, model=live)
    module: Any = live[0]
    assert module.loaded_from == 3
    assert same(module.seen, seen)


def compiled(module: nn.Module) -> Any:
    return torch.compile(module)


def inside(module: Any) -> Any:
    module.conv = nn.DataParallel(module.conv)
    return module


WRAPPERS: dict[str, Any] = {
    "bare": lambda module: module,
    "parallel": nn.DataParallel,
    "compiled": compiled,
    "both": lambda module: compiled(nn.DataParallel(module)),
    "inside": inside,
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("source", WRAPPERS)
@pytest.mark.parametrize("target", WRAPPERS)
def test_a_checkpoint_of_a_model_in_any_wrapper_loads_into_any_other(
    source: str, target: str, tmp_path: Path
) -> None:
    model = small()
    path = saved(tmp_path, WRAPPERS[source](copy.deepcopy(model))).path
    live = small()
    report = load_checkpoint(path, model=WRAPPERS[target](live)).report
    assert report.missing == report.unexpected == ()
    for one, other in zip(live.state_dict().values(), model.state_dict().values(), strict=True):
        assert same_bits(one, other)


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_takes_and_gives_bare_checkpoints(tmp_path: Path) -> None:
    model, live = small(), small()
    bare = saved(tmp_path, model).path
    load_checkpoint(bare, model=nn.parallel.DistributedDataParallel(live))
    wrapped = saved(tmp_path, nn.parallel.DistributedDataParallel(model), name="two").path
    again = small()
    load_checkpoint(wrapped, model=again)
    for name, tensor in model.state_dict().items():
        assert same_bits(live.state_dict()[name], tensor)
        assert same_bits(again.state_dict()[name], tensor)


def test_channels_last_stays_the_live_models_affair(tmp_path: Path) -> None:
    model = small()
    path = saved(tmp_path, model).path
    live: Any = small()
    live.conv.to(memory_format=torch.channels_last)
    load_checkpoint(path, model=live)
    assert live.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert same_bits(live.conv.weight.detach(), model.get_parameter("conv.weight").detach())


class Keeper:
    """An object that keeps exactly what it is given."""

    def __init__(self, state: Any = None) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state["state"]


def test_an_object_in_extra_gets_the_types_it_gave(tmp_path: Path) -> None:
    path = saved(tmp_path, {}, extra={"keeper": Keeper(VALUES)}).path
    live = Keeper()
    load_checkpoint(path, extra={"keeper": live})
    assert same(live.state, VALUES)


def test_everything_beside_the_model_goes_on_as_well(tmp_path: Path) -> None:
    def objects() -> dict[str, Any]:
        model = nn.Linear(2, 2)
        averaged = torch.optim.swa_utils.AveragedModel(model)
        critic = nn.Linear(2, 1)
        return {
            "ema": averaged,
            "critic": critic,
            "second": torch.optim.Adam(critic.parameters(), lr=0.1),
            "scaler": torch.amp.GradScaler("cpu", init_scale=2.0),
            "position": {"epoch": 0, "seen": set()},
        }

    one = objects()
    one["ema"].update_parameters(nn.Linear(2, 2))
    one["critic"](torch.ones(1, 2)).sum().backward()
    one["second"].step()
    one["scaler"].load_state_dict({**one["scaler"].state_dict(), "scale": 8.0})
    one["position"].update(epoch=3, seen={1, 2})
    path = saved(tmp_path, {}, extra=one).path
    two = objects()
    load_checkpoint(path, extra=two)
    assert differences(dict(two["ema"].state_dict()), dict(one["ema"].state_dict())) == []
    assert differences(dict(two["critic"].state_dict()), dict(one["critic"].state_dict())) == []
    assert differences(two["second"].state_dict(), one["second"].state_dict()) == []
    assert two["scaler"].state_dict()["scale"] == 8.0
    assert two["position"] == {"epoch": 3, "seen": {1, 2}}


def generators() -> dict[str, Any]:
    return {
        "numpy": np.random.default_rng(3),
        "legacy": np.random.RandomState(3),
        "torch": torch.Generator().manual_seed(3),
        "python": random.Random(3),
    }


def drawn(live: dict[str, Any]) -> list[Any]:
    return [
        live["numpy"].random(2).tolist(),
        live["legacy"].standard_normal(),
        torch.rand(2, generator=live["torch"]).tolist(),
        live["python"].gauss(0, 1),
    ]


def test_generators_in_extra_go_on_where_they_were(tmp_path: Path) -> None:
    one, two = generators(), generators()
    drawn(one)
    path = saved(tmp_path, {}, extra=one).path
    load_checkpoint(path, extra=two)
    assert drawn(two) == drawn(one)


def test_random_numbers_go_on_where_they_were_on_a_resume_only(tmp_path: Path) -> None:
    training = stepped("Adam")
    path = saved(tmp_path, training.model, optimizer=training.optimizer).path
    expected = [random.random(), np.random.random(), torch.rand(1).item()]
    load_checkpoint(path, model=training.model)
    assert [random.random(), np.random.random(), torch.rand(1).item()] != expected
    load_checkpoint(path, model=training.model, optimizer=training.optimizer)
    assert [random.random(), np.random.random(), torch.rand(1).item()] == expected


def test_plain_state_dicts_are_filled(tmp_path: Path) -> None:
    training = stepped("Adam")
    path = saved(tmp_path, training.model, optimizer=training.optimizer).path
    model = {name: torch.zeros_like(t) for name, t in training.model.state_dict().items()}
    load_checkpoint(path, model=model)
    assert differences(model, dict(training.model.state_dict())) == []
    result: Any = load_checkpoint(path)
    assert differences(result["optimizer_state_dict"], training.optimizer.state_dict()) == []


def test_a_checkpoint_of_another_model_changes_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path, small()).path
    live = nn.Linear(4, 2)
    before = copy.deepcopy(live.state_dict())
    with pytest.raises(StateMismatchError):
        load_checkpoint(path, model=live)
    assert differences(dict(live.state_dict()), dict(before)) == []
