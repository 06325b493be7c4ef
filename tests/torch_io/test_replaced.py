"""A script that changed before a resume gets the old settings back, and is told so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.optim import lr_scheduler as lrs

from smartcash_format.torch_io.load import load_checkpoint
from tests.torch_io import handmade
from tests.torch_io.zoo import OPTIMIZERS, SCHEDULERS, Training, fresh, scheduler, step_scheduler


def saved(tmp_path: Path, training: Training, live: Any = None) -> Path:
    """A checkpoint after a few steps of both."""
    for seed in range(3):
        training.step(seed)
        if live is not None:
            step_scheduler(live)
    state = {} if live is None else {"scheduler": live.state_dict()}
    return handmade.write(
        tmp_path / "c", **handmade.of(training.model, training.optimizer), **state
    )


def notes(path: Path, training: Training, live: Any = None) -> str:
    result = load_checkpoint(
        path, model=training.model, optimizer=training.optimizer, scheduler=live
    )
    return "\n".join(note for note in result.notes if "goes on as saved" in note)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_same_script_is_told_nothing_of_its_optimizer(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, fresh(name))
    assert notes(path, fresh(name)) == ""


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_same_script_is_told_nothing_of_its_scheduler(
    tmp_path: Path, name: str, optimizer: str
) -> None:
    arguments: dict[str, Any] = {"momentum": 0.9} if optimizer == "SGD" else {}
    training = fresh(optimizer, **arguments)
    if name == "CyclicLR" and optimizer == "AdamW":
        pytest.skip("it cycles a momentum that AdamW has not")
    path = saved(tmp_path, training, scheduler(name, training.optimizer))
    again = fresh(optimizer, **arguments)
    assert notes(path, again, scheduler(name, again.optimizer)) == ""
    # and in the middle of a run, which goes back to what it saved
    assert notes(path, training) == ""


def test_other_hyperparameters_are_named_with_both_values(tmp_path: Path) -> None:
    path = saved(tmp_path, fresh("AdamW", lr=0.001))
    said = notes(path, other := fresh("AdamW", lr=0.002, betas=(0.5, 0.9), fused=True))
    assert said == (
        "optimizer goes on as saved, with betas=[0.9, 0.999] ([0.5, 0.9] here), "
        "lr=0.001 (0.002 here); what is to change is set after the load"
    )
    assert other.optimizer.param_groups[0]["lr"] == 0.001


def test_another_first_learning_rate_is_told_from_a_schedule(tmp_path: Path) -> None:
    training = fresh("SGD", lr=0.1)
    path = saved(tmp_path, training, scheduler("StepLR", training.optimizer))
    other = fresh("SGD", lr=0.2)
    said = notes(path, other, scheduler("StepLR", other.optimizer))
    assert said.startswith("optimizer goes on as saved, with lr=0.1 (0.2 here);")


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (
            lambda o: lrs.CosineAnnealingLR(o, 10),
            lambda o: lrs.CosineAnnealingLR(o, 50),
            "T_max=10 (50 here)",
        ),
        (
            lambda o: lrs.MultiStepLR(o, [30, 60]),
            lambda o: lrs.MultiStepLR(o, [60, 90]),
            "milestones=[30, 60] ([60, 90] here)",
        ),
        (
            lambda o: lrs.OneCycleLR(o, 0.1, total_steps=20),
            lambda o: lrs.OneCycleLR(o, 0.1, total_steps=40),
            "total_steps=20 (40 here)",
        ),
    ],
)
def test_another_schedule_is_named(
    tmp_path: Path, before: Callable[..., Any], now: Callable[..., Any], said: str
) -> None:
    training, other = fresh("SGD"), fresh("SGD")
    path = saved(tmp_path, training, before(training.optimizer))
    found = notes(path, other, now(other.optimizer))
    assert f"scheduler goes on as saved, with {said};" in found


def test_a_scheduler_of_another_making_is_compared_by_the_arguments_that_its_state_has(
    tmp_path: Path,
) -> None:
    class Warmup(lrs.LRScheduler):
        def __init__(self, optimizer: Any, warmup: int, note: object = None) -> None:
            self.warmup = warmup
            self.note = note
            super().__init__(optimizer)

        def get_lr(self) -> Any:
            return self.base_lrs

    training, other = fresh("SGD"), fresh("SGD")
    path = saved(tmp_path, training, Warmup(training.optimizer, 5))
    assert "warmup=5 (7 here);" in notes(path, other, Warmup(other.optimizer, 7))
