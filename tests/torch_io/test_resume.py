"""A run is resumed with everything it has, and what a resume says of what it did."""

from __future__ import annotations

import random
import uuid
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as lrs

from smartcash_format.errors import StateMismatchError
from smartcash_format.torch_io.load import load_checkpoint
from smartcash_format.torch_io.save import Facts, save
from tests.torch_io.same import assert_same, snapshot
from tests.torch_io.zoo import fresh, stepped


def saved(path: Path, **live: Any) -> Path:
    facts = Facts(
        checkpoint_id=str(uuid.uuid4()),
        run_id=str(uuid.uuid4()),
        parent_id=None,
        saved_at=datetime.now(UTC),
        epoch=1,
        step=None,
        is_best=False,
        metrics={},
        backbone=None,
        dataset=None,
        tags=(),
        config=None,
        notes={},
    )
    return save(path, facts, **live).path


class Detector(nn.Module):
    """A little of everything: tied weights, buffers, half precision, state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.embed = nn.Linear(4, 6, bias=False)
        self.out = nn.Linear(4, 6, bias=False)
        self.out.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.classes = {"names": {"coin", "note"}, "sizes": (1, 2)}

    def get_extra_state(self) -> Any:
        return self.classes

    def set_extra_state(self, state: Any) -> None:
        self.classes = state

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = self.get_buffer("seen")
        seen += 1
        features = self.stem(x).mean((2, 3))
        found: torch.Tensor = (self.embed(features) * self.out(features)).sum()
        return found * self.scale.float().mean()


class Loader:
    """A data loader that knows its place, with state of many types."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(3)
        self.recent: deque[int] = deque(maxlen=4)
        self.done: set[int] = set()

    def draw(self) -> int:
        found = int(self.generator.integers(1000))
        self.recent.append(found)
        self.done.add(found)
        return found

    def state_dict(self) -> dict[str, Any]:
        return {
            "generator": self.generator.bit_generator.state,
            "recent": self.recent,
            "done": self.done,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        torch.rand(3)  # drawing numbers here must not be seen by the training
        self.generator.bit_generator.state = state["generator"]
        self.recent, self.done = state["recent"], state["done"]


class Run:
    """A whole training run: everything that a resume has to bring back."""

    def __init__(self) -> None:
        self.model = Detector()
        self.ema = Detector()
        groups: list[dict[str, Any]] = [
            {"params": self.model.stem.parameters(), "lr": 0.01},
            {"params": [self.model.embed.weight, self.model.scale]},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.02)
        self.scheduler = lrs.CosineAnnealingLR(self.optimizer, T_max=10)
        self.second = torch.optim.SGD(self.ema.parameters(), lr=0.1, momentum=0.9)
        self.scaler = torch.amp.GradScaler("cpu")
        self.loader = Loader()

    @property
    def extra(self) -> dict[str, Any]:
        return {
            "ema": self.ema,
            "second": self.second,
            "scaler": self.scaler,
            "loader": self.loader,
        }

    def step(self) -> list[float]:
        self.optimizer.zero_grad()
        self.second.zero_grad()
        x = torch.rand(2, 1, 5, 5) + random.random() + float(np.random.rand()) + self.loader.draw()
        loss = self.model(x) + self.ema(x)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.step(self.second)
        self.scaler.update()
        self.scheduler.step()
        return [loss.item(), self.scheduler.get_last_lr()[0]]

    def state(self) -> Any:
        return snapshot(
            self.model, self.ema, self.optimizer, self.second, self.scheduler, self.scaler
        )


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def test_a_whole_run_comes_back_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    run = Run()
    for _ in range(3):
        run.step()
    path = saved(
        tmp_path / "c",
        model=run.model,
        optimizer=run.optimizer,
        scheduler=run.scheduler,
        extra=run.extra,
    )
    state, ahead = run.state(), [run.step() for _ in range(4)]
    again = Run()
    result = load_checkpoint(
        path,
        model=again.model,
        optimizer=again.optimizer,
        scheduler=again.scheduler,
        extra=again.extra,
    )
    assert result.restored == (
        "model", "optimizer", "scheduler", "ema", "second", "scaler", "loader", "rng",
    )  # fmt: skip
    assert result.notes == ()
    assert_same(again.state(), state)
    assert again.model.classes == run.model.classes
    assert again.model.out.weight is again.model.embed.weight
    assert again.loader.recent.maxlen == 4
    assert [again.step() for _ in range(4)] == ahead
    assert_same(again.state(), run.state())


def test_a_state_dict_of_the_result_is_what_torch_would_give(tmp_path: Path) -> None:
    run = Run()
    run.step()
    path = saved(tmp_path / "c", model=run.model, optimizer=run.optimizer)
    found = load_checkpoint(path)
    torch.manual_seed(9)
    other = Run()
    other.model.load_state_dict(found["model_state_dict"])
    other.optimizer.load_state_dict(found["optimizer_state_dict"])
    assert_same(other.model.state_dict(), run.model.state_dict())
    assert_same(other.optimizer.state_dict(), run.optimizer.state_dict())


def bare(model: nn.Module) -> Any:
    return model


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize("there", [nn.DataParallel, compiled])
@pytest.mark.parametrize("here", [bare, compiled])
def test_names_in_an_optimizer_leave_wrappers_out(here: Any, there: Any, tmp_path: Path) -> None:
    training = stepped("Adam")
    path = saved(tmp_path / "c", model=there(training.model), optimizer=training.optimizer)
    loaded = fresh("Adam", "dcba")
    result = load_checkpoint(path, model=here(loaded.model), optimizer=loaded.optimizer)
    assert not any("by position" in note for note in result.notes)
    a, there_a = loaded.model.get_parameter("a"), training.model.get_parameter("a")
    assert_same(loaded.optimizer.state[a], training.optimizer.state[there_a])


def test_a_plain_state_dict_with_a_prefix_is_proposed_to_lose_it(tmp_path: Path) -> None:
    training = stepped("SGD")
    prefixed = {f"module.{name}": t for name, t in training.model.state_dict().items()}
    path = saved(tmp_path / "c", model=prefixed)
    with pytest.raises(StateMismatchError, match=r"begin with 'module\.'"):
        load_checkpoint(path, model=training.model)


class Own(lrs.LRScheduler):
    """A scheduler of the user's, with state of types that torch files do not hold."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.warm = {1, 2}
        self.window: deque[float] = deque([1.0], maxlen=3)
        self.factor = np.float32(0.5)
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        self.window.append(self.last_epoch)
        return [float(lr) * float(self.factor) for lr in self.base_lrs]


def test_a_scheduler_of_the_users_gets_the_types_that_it_had(tmp_path: Path) -> None:
    training = stepped("SGD")
    own = Own(training.optimizer)
    own.warm = {7}
    training.step()
    own.step()
    path = saved(tmp_path / "c", model=training.model, scheduler=own)
    loaded = Own(fresh("SGD").optimizer)
    result = load_checkpoint(path, scheduler=loaded)
    assert result.restored == ("scheduler",)
    assert loaded.state_dict() == own.state_dict()
    assert type(loaded.factor) is np.float32
    assert loaded.window.maxlen == 3


def test_an_optimizer_of_the_users_keeps_state_beside_that_of_parameters(tmp_path: Path) -> None:
    class Mine(torch.optim.SGD):
        pass

    def make() -> tuple[Any, Mine]:
        training = fresh("SGD")
        mine = Mine(training.model.parameters(), lr=0.5, momentum=0.9)
        training.optimizer = mine
        return training, mine

    training, mine = make()
    training.step()
    mine.state["global"] = {"count": 3, "odd": torch.zeros(7)}  # type: ignore[index]
    path = saved(tmp_path / "c", model=training.model, optimizer=mine)
    loaded, again = make()
    result = load_checkpoint(path, model=loaded.model, optimizer=again)
    assert_same(again.state_dict(), mine.state_dict())
    assert any("not of torch.optim" in note for note in result.notes)
