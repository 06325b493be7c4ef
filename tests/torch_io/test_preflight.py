"""Preflight says whether a checkpoint fits and why not, from headers alone, and touches nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format import preflight
from smartcash_format.errors import CheckpointError, StateMismatchError
from smartcash_format.torch_io.load import load_checkpoint
from tests.torch_io import handmade
from tests.torch_io.same import assert_same, snapshot
from tests.torch_io.zoo import fresh, scheduler, stepped


class Yolo(nn.Module):
    def __init__(self, classes: int = 7, width: int = 8) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*(nn.Conv2d(width, width, 3) for _ in range(6)))
        self.head = nn.Conv2d(width, 3 * (5 + classes), 1)


def saved(tmp_path: Path, model: nn.Module, prefix: str = "", **facts: Any) -> Path:
    weights = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    return handmade.write(tmp_path / "c", weights={"model": weights}, **facts)


def test_what_fits_has_no_problems_and_names_what_would_be_restored(tmp_path: Path) -> None:
    training = stepped("Adam")
    live = scheduler("StepLR", training.optimizer)
    path = handmade.write(
        tmp_path / "c",
        **handmade.of(training.model, training.optimizer),
        scheduler=live.state_dict(),
    )
    before = snapshot(training.model, training.optimizer, live)
    report = preflight(path, training.model, training.optimizer, live)
    assert report.fits
    assert report.restored == ("model", "optimizer", "scheduler")
    assert report.absent == ("rng",)
    assert_same(snapshot(training.model, training.optimizer, live), before)
    assert str(report).startswith("restored: model, optimizer, scheduler")


def test_no_tensor_is_read_for_it(tmp_path: Path) -> None:
    training = stepped("Adam")
    path = handmade.write(tmp_path / "c", **handmade.of(training.model, training.optimizer))
    file = path / "model.safetensors"
    data = file.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    file.write_bytes(data[:header] + bytes(len(data) - header))
    assert preflight(path, training.model, training.optimizer).fits


def test_problems_are_those_that_a_load_raises(tmp_path: Path) -> None:
    training, other = stepped("Adam"), fresh("SGD", "abcx")
    path = handmade.write(tmp_path / "c", **handmade.of(training.model, training.optimizer))
    report = preflight(path, other.model, other.optimizer)
    assert not report.fits
    assert [problem.code for problem in report.problems] == [
        "tensor-missing",
        "tensor-unexpected",
        "optimizer-class",
        "optimizer-names",
    ]
    with pytest.raises(StateMismatchError) as caught:
        load_checkpoint(path, model=other.model, optimizer=other.optimizer)
    assert caught.value.problems == report.problems
    assert "problem: x: the model has it" in str(report)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.net."])
def test_a_prefix_of_a_plain_dict_is_proposed_and_not_taken_off(
    prefix: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, model := Yolo(), prefix)
    report = preflight(path, model)
    assert f"The checkpoint's names begin with {prefix!r}" in report.hint
    assert f"removeprefix({prefix!r})" in str(report)
    # and what it proposes works
    state = load_checkpoint(path)["model_state_dict"]
    model.load_state_dict({name.removeprefix(prefix): t for name, t in state.items()})


def test_a_head_for_another_number_of_classes_is_the_likely_cause(tmp_path: Path) -> None:
    path = saved(tmp_path, Yolo(classes=80))
    report = preflight(path, Yolo(classes=7))
    assert [item.name for item in report.mismatched] == ["head.weight", "head.bias"]
    assert "255 in the checkpoint, 36 here" in report.hint
    assert preflight(path, Yolo(classes=7), strict=False).fits


def test_another_width_is_the_likely_cause_with_the_backbone(tmp_path: Path) -> None:
    path = saved(tmp_path, Yolo(width=8), backbone="efficientnet_b4")
    report = preflight(path, Yolo(width=16))
    assert "another backbone" in report.hint
    assert "efficientnet_b4" in report.hint


def test_another_network_is_the_likely_cause(tmp_path: Path) -> None:
    path = saved(tmp_path, Yolo())
    report = preflight(path, nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    assert "another network (Net, epoch 3)" in report.hint


def test_a_cast_is_no_problem_and_is_listed(tmp_path: Path) -> None:
    path = saved(tmp_path, Yolo())
    report = preflight(path, Yolo().half())
    assert report.fits
    assert {(cast.stored, cast.live) for cast in report.cast} == {("F32", "F16")}
    assert "more" in str(report)


def test_an_optimizer_alone_is_compared_by_the_names_that_it_knows(tmp_path: Path) -> None:
    training = stepped("Adam")
    path = handmade.write(tmp_path / "c", **handmade.of(training.model, training.optimizer))
    named = torch.optim.Adam(list(training.model.named_parameters()))
    assert preflight(path, optimizer=named).fits
    renamed = torch.optim.Adam([(f"x.{n}", p) for n, p in training.model.named_parameters()])
    report = preflight(path, optimizer=renamed)
    assert {problem.code for problem in report.problems} == {"optimizer-names"}


def test_what_is_no_checkpoint_raises(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        preflight(tmp_path, nn.Linear(1, 1))
