"""Objects in `extra` and averaged weights come back under their names."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from smartcash_format import save_checkpoint
from smartcash_format.errors import StateMismatchError
from smartcash_format.torch_io.load import load_checkpoint
from smartcash_format.torch_io.rng import generator_state
from tests.torch_io import handmade
from tests.torch_io.handmade import saved_training
from tests.torch_io.live import Average
from tests.torch_io.same import assert_same, snapshot
from tests.torch_io.zoo import fresh, stepped


def test_extra_objects_come_back_and_a_module_among_them_is_a_weight_set(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, average = nn.Linear(2, 2), nn.Linear(2, 2)
    path = handmade.write(
        tmp_path / "c",
        weights={"model": model.state_dict(), "ema": average.state_dict()},
        extra={"objects": {"counter": {"n": 3}, "plain": {"k": [1]}}},
    )
    live, live_average, counter = nn.Linear(2, 2), nn.Linear(2, 2), Average()
    plain: dict[str, Any] = {"old": 0}
    result = load_checkpoint(
        path, model=live, extra={"ema": live_average, "counter": counter, "plain": plain}
    )
    assert_same(live_average.state_dict(), average.state_dict())
    assert counter.state == {"n": 3}
    assert plain == {"k": [1]}
    assert result.restored == ("model", "ema", "counter", "plain")


def test_an_optimizer_and_averaged_weights_come_back_together(tmp_path: Path) -> None:
    saved, live = stepped("Adam"), fresh("Adam")
    parts = handmade.of(saved.model, saved.optimizer)
    parts["weights"]["ema"] = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    average = nn.Linear(2, 2)
    result = load_checkpoint(
        handmade.write(tmp_path / "c", **parts),
        model=live.model,
        optimizer=live.optimizer,
        extra={"ema": average},
    )
    assert result.restored == ("model", "optimizer", "ema")
    assert_same(live.optimizer.state_dict(), saved.optimizer.state_dict())
    assert_same(average.state_dict(), parts["weights"]["ema"])


def test_a_module_takes_what_was_saved_as_its_state_dict(tmp_path: Path) -> None:
    torch.manual_seed(1)
    average = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    path = handmade.write(
        tmp_path / "c",
        weights={"model": {"w": torch.zeros(1)}},
        extra={"objects": {"ema": dict(average.state_dict())}},
    )
    live = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    result = load_checkpoint(path, extra={"ema": nn.DataParallel(live)})
    assert result.restored == ("ema",)
    assert_same(live.state_dict(), average.state_dict())
    other = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))
    before = snapshot(other)
    with pytest.raises(StateMismatchError) as caught:
        load_checkpoint(path, extra={"ema": other})
    assert {problem.code for problem in caught.value.problems} == {"shape-mismatch"}
    assert caught.value.problems[0].where == "ema:0.weight"
    assert_same(snapshot(other), before)


def test_names_in_extra_that_one_side_lacks_raise_unless_not_strict(tmp_path: Path) -> None:
    path = handmade.write(
        tmp_path / "c",
        weights={"model": {"w": torch.zeros(1)}},
        extra={"objects": {"here": {"n": 1}}},
    )
    with pytest.raises(StateMismatchError) as caught:
        load_checkpoint(path, extra={"other": Average()})
    assert [(p.code, p.where) for p in caught.value.problems] == [
        ("extra-missing", "extra['other']"),
        ("extra-unexpected", "extra['here']"),
    ]
    result = load_checkpoint(path, extra={"other": Average()}, strict=False)
    assert result.absent == ("other",)


def test_a_resume_that_leaves_extra_state_behind_says_so(tmp_path: Path) -> None:
    saved = stepped("SGD")
    path = saved_training(tmp_path, saved, extra={"objects": {"scaler": {"scale": 2.0}}})
    live = fresh("SGD")
    result = load_checkpoint(path, model=live.model, optimizer=live.optimizer)
    assert any("also has scaler" in note for note in result.notes)


GENERATORS: dict[str, Any] = {
    "torch": torch.Generator,
    "python": random.Random,
    "numpy": lambda: np.random.default_rng(1),
    "philox": lambda: np.random.Generator(np.random.Philox(1)),
    "legacy": lambda: np.random.RandomState(1),
}


@pytest.mark.parametrize("stored", [*GENERATORS, "dict"])
@pytest.mark.parametrize("here", GENERATORS)
def test_a_generator_that_does_not_take_the_state_leaves_everything_untouched(
    stored: str, here: str, tmp_path: Path
) -> None:
    model = nn.Linear(2, 2)
    state = {"n": 1} if stored == "dict" else GENERATORS[stored]()
    path = save(tmp_path, model, {"draws": state})
    live, generator = nn.Linear(2, 2), GENERATORS[here]()
    before = snapshot(live), generator_state(generator)
    if stored == here:
        load_checkpoint(path, model=live, extra={"draws": generator})
        assert_same(generator_state(generator), generator_state(state))
        return
    with pytest.raises(StateMismatchError) as caught:
        load_checkpoint(path, model=live, extra={"draws": generator}, strict=False)
    assert [(p.code, p.where) for p in caught.value.problems] == [("extra-state", "extra['draws']")]
    assert_same((snapshot(live), generator_state(generator)), before)


def test_a_dict_for_a_state_that_is_none_is_not_emptied(tmp_path: Path) -> None:
    path = save(tmp_path, nn.Linear(2, 2), {"listed": Listed()})
    live, plain = nn.Linear(2, 2), {"kept": 1}
    before = snapshot(live)
    with pytest.raises(StateMismatchError, match="is list, and a dict here"):
        load_checkpoint(path, model=live, extra={"listed": plain})
    assert plain == {"kept": 1}
    assert_same(snapshot(live), before)


class Listed:
    """An object whose state is a list."""

    def state_dict(self) -> list[int]:
        return [1, 2]


def save(directory: Path, model: nn.Module, extra: dict[str, Any]) -> Path:
    path: Path = save_checkpoint(directory / "c", model, extra=extra)["path"]
    return path
