"""Preflight says whether a checkpoint fits and why not, from headers alone, and touches nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from smartcash_format import load_tensors, preflight
from smartcash_format.errors import CheckpointError, StateMismatchError
from smartcash_format.torch_io.load import load_checkpoint
from tests.torch_io import handmade
from tests.torch_io.handmade import saved_training
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
    path = saved_training(tmp_path, training, scheduler=live.state_dict())
    before = snapshot(training.model, training.optimizer, live)
    report = preflight(path, training.model, training.optimizer, live)
    assert report.fits
    assert report.restored == ("model", "optimizer", "scheduler")
    assert report.absent == ("rng",)
    assert_same(snapshot(training.model, training.optimizer, live), before)
    assert str(report).startswith("restored: model, optimizer, scheduler")


def test_no_tensor_is_read_for_it(tmp_path: Path) -> None:
    training = stepped("Adam")
    path = saved_training(tmp_path, training)
    file = path / "model.safetensors"
    data = file.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    file.write_bytes(data[:header] + bytes(len(data) - header))
    assert preflight(path, training.model, training.optimizer).fits


def test_problems_are_those_that_a_load_raises(tmp_path: Path) -> None:
    training, other = stepped("Adam"), fresh("SGD", "abcx")
    path = saved_training(tmp_path, training)
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
    before = snapshot(model)
    with torch.no_grad():
        model.head.weight.zero_()
    assert obey(report.hint, model, path) == "<All keys matched successfully>"
    assert_same(snapshot(model), before)


def obey(hint: str, model: nn.Module, path: Path) -> str:
    """What the line of code in a hint gives."""
    code = hint[hint.index("model.load_state_dict") :]
    return str(eval(code, {"model": model, "path": path, "load_tensors": load_tensors}))


def test_the_hint_takes_the_weight_set_that_does_not_fit(tmp_path: Path) -> None:
    model, averaged = Yolo(), AveragedModel(Yolo())
    path = handmade.write(
        tmp_path / "c", weights={"model": model.state_dict(), "ema": averaged.state_dict()}
    )
    fresh_model = Yolo()
    hint = preflight(path, extra={"ema": fresh_model}).hint
    assert obey(hint, fresh_model, path) == "<All keys matched successfully>"
    assert_same(snapshot(fresh_model), snapshot(averaged.module))


def test_a_part_of_the_stored_model_is_proposed_alone(tmp_path: Path) -> None:
    path = saved(tmp_path, Yolo())
    backbone = Yolo().backbone
    hint = preflight(path, backbone).hint
    assert obey(hint, backbone, path) == "<All keys matched successfully>"


def test_a_part_of_the_live_model_is_proposed(tmp_path: Path) -> None:
    model = Yolo()
    path = saved(tmp_path, model.backbone)
    assert "into that part, model.get_submodule('backbone')" in preflight(path, model).hint
    assert preflight(path, model.get_submodule("backbone")).fits


def test_a_report_of_a_thousand_problems_fits_on_a_screen(tmp_path: Path) -> None:
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(250)))
    report = preflight(saved(tmp_path, model, "x."), model)
    assert len(report.problems) == 1000
    lines = str(report).splitlines()
    assert len(lines) < 30
    assert "... and 980 more in the attribute `problems`" in lines
    assert report.hint in lines


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
    path = saved_training(tmp_path, training)
    named = torch.optim.Adam(list(training.model.named_parameters()))
    assert preflight(path, optimizer=named).fits
    renamed = torch.optim.Adam([(f"x.{n}", p) for n, p in training.model.named_parameters()])
    report = preflight(path, optimizer=renamed)
    assert {problem.code for problem in report.problems} == {"optimizer-names"}


def test_what_is_no_checkpoint_raises(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        preflight(tmp_path, nn.Linear(1, 1))


def test_a_layer_more_or_less_is_answered_with_how_the_rest_is_loaded(tmp_path: Path) -> None:
    path = saved(tmp_path, Yolo())
    model = Yolo()
    model.head2 = nn.Linear(2, 2)
    report = preflight(path, model)
    assert report.hint == "strict=False loads the 14 of 16 tensors that fit and lists the rest."
    assert preflight(path, model, strict=False).fits


def of_frozen(tmp_path: Path) -> tuple[Path, nn.Module]:
    """A checkpoint of a training whose backbone was frozen, and its model."""
    model = Yolo()
    head = torch.optim.AdamW(model.head.parameters())
    model.head(torch.randn(1, 8, 2, 2)).sum().backward()
    head.step()
    return handmade.write(tmp_path / "c", **handmade.of(model, head)), Yolo()


def test_a_backbone_that_was_frozen_is_answered_with_how_to_go_on(tmp_path: Path) -> None:
    path, model = of_frozen(tmp_path)
    optimizer = torch.optim.AdamW(model.parameters())
    hint = preflight(path, model, optimizer).hint
    assert (
        "strict=False keeps its state for 2 of 14 parameters and starts the others afresh" in hint
    )
    assert "optimizer=None loads the weights alone" in hint
    assert preflight(path, model).fits
    load_checkpoint(path, model=model, optimizer=optimizer, strict=False)
    kept = {name for name, p in model.named_parameters() if optimizer.state[p]}
    assert kept == {"head.weight", "head.bias"}


def test_another_optimizer_is_answered_with_how_to_go_on(tmp_path: Path) -> None:
    path, model = of_frozen(tmp_path)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    hint = preflight(path, model, optimizer).hint
    assert "strict=False leaves the optimizer as it is here" in hint
    load_checkpoint(path, model=model, optimizer=optimizer, strict=False)
    assert not optimizer.state_dict()["state"]


def test_what_strict_does_not_mend_is_not_answered_with_it(tmp_path: Path) -> None:
    model = Yolo()
    weights = {name: tensor.to(torch.complex64) for name, tensor in model.state_dict().items()}
    path = handmade.write(tmp_path / "c", weights={"model": weights})
    model.head2 = nn.Linear(2, 2)
    assert not preflight(path, model, strict=False).fits
    assert preflight(path, model).hint == ""
