"""What a save asks of the disk before its first byte is enough, and at most 1 % too much."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from smartcash_format.disk import publish
from smartcash_format.errors import InsufficientSpaceError
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.torch_io.collect import collect
from smartcash_format.torch_io.save import save, size_bound
from tests.torch_io.saving import facts, saved

pytestmark = pytest.mark.torch


def of_50_megabytes() -> nn.Module:
    return nn.Sequential(nn.Linear(2_048, 2_048), nn.Linear(2_048, 2))


def of_two_thousand_tensors() -> nn.Module:
    return nn.Sequential(*(nn.Linear(32, 32) for _ in range(1_000)))


MODELS = [of_50_megabytes, of_two_thousand_tensors]


def stepped(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("make", MODELS)
def test_the_bound_is_enough_and_at_most_one_percent_too_much(tmp_path: Path, make: object) -> None:
    assert callable(make)
    model = make()
    optimizer = stepped(model)
    asked = size_bound(collect(model=model, optimizer=optimizer), facts())
    taken = saved(tmp_path, model, optimizer=optimizer).size_bytes
    assert taken <= asked <= 1.01 * taken


def test_of_tiny_tensors_the_bound_is_less_than_75_bytes_each_too_much(tmp_path: Path) -> None:
    # Of zeros no text is shorter, and what is asked for does not depend on values.
    model = {f"layer{number}.weight": torch.zeros(4) for number in range(1_000)}
    asked = size_bound(collect(model=model), facts())
    taken = saved(tmp_path, model).size_bytes
    assert taken <= asked < taken + 75 * len(model)


@pytest.mark.parametrize("incremental", [False, True])
@pytest.mark.parametrize("blocking", [True, False])
def test_a_manager_saves_on_a_disk_with_just_that_room_and_refuses_one_with_a_byte_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocking: bool, incremental: bool
) -> None:
    model = of_two_thousand_tensors()
    optimizer = stepped(model)
    keeper = CheckpointManager(tmp_path, incremental=incremental)

    def save_it() -> Path:
        path = keeper.save_checkpoint(model, optimizer, epoch=1, blocking=blocking)["path"]
        keeper.wait()
        assert isinstance(path, Path)
        return path

    free = [0]
    monkeypatch.setattr(publish, "free_bytes", lambda path: free[0])
    with pytest.raises(InsufficientSpaceError) as caught:
        save_it()
    needed = caught.value.needed_bytes
    free[0] = needed - 1
    with pytest.raises(InsufficientSpaceError):
        save_it()
    assert list(tmp_path.iterdir()) == []
    free[0] = needed
    path = save_it()
    taken = sum(file.stat().st_size for file in path.iterdir())
    assert taken <= needed <= 1.01 * taken


def test_the_bound_is_enough_for_tensors_of_nothing_but_nan_in_many_files(tmp_path: Path) -> None:
    state = {
        f"{kind}{number}": torch.full((3, number), value)
        for number in range(1, 40)
        for kind, value in [("nan", torch.nan), ("inf", -torch.inf), ("tiny", -1.2345678e-38)]
    }
    state |= {f"integers {number}": torch.arange(number) for number in range(9)}
    asked = size_bound(collect(model=state, max_shard_bytes=500), facts())
    taken = save(tmp_path / "one", facts(), model=state, max_shard_bytes=500).size_bytes
    assert taken <= asked
