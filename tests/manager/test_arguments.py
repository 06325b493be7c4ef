"""Arguments of the wrong kind: refused by name before anything is touched, or said and left out."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smartcash_format import CheckpointManager, load_tensors, preflight, save_checkpoint
from smartcash_format.errors import CheckpointError, UnsavableStateError
from smartcash_format.manager.results import SaveResult
from tests.manager.training import manager, same, training

pytestmark = pytest.mark.torch


def saved(root: Path, **more: Any) -> tuple[CheckpointManager, SaveResult]:
    made, _ = manager(root)
    return made, made.save_checkpoint(**training().live(), epoch=1, **more)


@pytest.mark.parametrize("name", ["save_optimizer", "rng", "blocking", "is_best"])
@pytest.mark.parametrize("value", ["no", 0.25, torch.tensor([True, False])])
def test_a_save_refuses_a_flag_that_is_none(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=f"^{name} is {type(value).__name__}, not True or False"):
        saved(tmp_path, **{name: value})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [np.bool_(True), torch.tensor(True), np.array([True]), 1])
def test_a_comparison_of_numpy_or_torch_is_a_flag(value: Any, tmp_path: Path) -> None:
    _, result = saved(tmp_path, is_best=value)
    assert result["type"] == "best"


def test_the_plain_function_refuses_them_too(tmp_path: Path) -> None:
    for name in ("rng", "is_best"):
        wrong: dict[str, Any] = {name: "no"}
        with pytest.raises(TypeError, match=f"^{name} is str"):
            save_checkpoint(tmp_path / "one", **training().live(), **wrong)
    assert os.listdir(tmp_path) == []


def test_incremental_is_a_flag(tmp_path: Path) -> None:
    wrong: Any = "no"
    with pytest.raises(TypeError, match=r"^incremental is str, not True or False"):
        CheckpointManager(tmp_path, incremental=wrong)


@pytest.mark.parametrize("name", ["strict", "verify", "missing_ok", "fallback"])
@pytest.mark.parametrize("value", ["no", None])
def test_a_load_refuses_a_flag_that_is_none(name: str, value: Any, tmp_path: Path) -> None:
    made, result = saved(tmp_path)
    live = training(seed=7)
    before = live.state()
    with pytest.raises(TypeError, match=f"^{name} is {type(value).__name__}, not True or False"):
        made.load_checkpoint(1, **live.live(), **{name: value})
    assert same(live.state(), before)
    if name == "strict":
        with pytest.raises(TypeError, match=r"^strict is"):
            preflight(result["path"], live.model, strict=value)
    if name == "verify":
        with pytest.raises(TypeError, match=r"^verify is"):
            load_tensors(result["path"], verify=value)


@pytest.mark.parametrize("device", ["nope", "cpu:x", 1.5])
def test_a_device_that_is_none_is_refused_before_anything_is_touched(
    device: Any, tmp_path: Path
) -> None:
    made, result = saved(tmp_path)
    live = training(seed=7)
    before = live.state()
    with pytest.raises(ValueError, match=f"^device is {device!r}, which torch does not take: "):
        made.load_checkpoint(1, device, **live.live())
    assert same(live.state(), before)
    with pytest.raises(ValueError, match=r"^device is"):
        load_tensors(result["path"], device=device)


@pytest.mark.parametrize("tags", [5, object()])
def test_tags_that_are_no_list_never_cost_the_checkpoint(tags: Any, tmp_path: Path) -> None:
    made, result = saved(tmp_path, tags=tags)
    name = type(tags).__name__
    assert result["warnings"] == (f"tags: left out, being {name} and no list of texts",)
    assert made.list_checkpoints()[0].tags == ()


def test_no_tags_may_also_be_none(tmp_path: Path) -> None:
    _, result = saved(tmp_path, tags=None)
    assert result["warnings"] == ()


@pytest.mark.parametrize("name", ["backbone", "dataset"])
def test_a_name_that_is_not_kept_as_given_is_said(name: str, tmp_path: Path) -> None:
    made, result = saved(tmp_path, **{name: ["a"]})
    assert result["warnings"] == (f"{name}: left out, being list and no text",)
    _, result = saved(tmp_path, **{name: np.ones(2)})
    assert result["warnings"] == (f"{name}: left out, being ndarray and no text",)
    _, result = saved(tmp_path, **{name: "x" * 300})
    kept = "x" * 256
    assert result["warnings"] == (f"{name}: stored as meta.json has room for it: {kept!r}",)
    assert getattr(made.list_checkpoints()[0], name) == kept
    _, result = saved(tmp_path, **{name: "efficientnet_b4"})
    assert result["warnings"] == ()


@pytest.mark.parametrize("name", ["model", "optimizer", "scheduler"])
def test_a_class_in_an_objects_place_is_named(name: str, tmp_path: Path) -> None:
    live = training()
    wrong = {**live.live(), name: type(live.live()[name])}
    message = rf"^{name} is \w+, a class, which has no state"
    made, _ = manager(tmp_path)
    with pytest.raises(UnsavableStateError, match=message):
        made.save_checkpoint(**wrong, epoch=1)
    assert os.listdir(tmp_path) == []
    made.save_checkpoint(**live.live(), epoch=1)
    before = live.state()
    with pytest.raises(CheckpointError, match=message):
        made.load_checkpoint(1, **wrong)
    with pytest.raises(CheckpointError, match="which has no load_state_dict"):
        made.load_checkpoint(1, **live.live(), extra={"ema": torch.nn.Linear})
    assert same(live.state(), before)


def test_the_systems_random_numbers_have_no_state(tmp_path: Path) -> None:
    with pytest.raises(UnsavableStateError, match="is a SystemRandom without a state_dict"):
        saved(tmp_path, extra={"draws": random.SystemRandom()})


@pytest.mark.parametrize("logger", [print, "log", object()])
def test_a_logger_that_is_none_is_refused_when_it_is_given(logger: Any, tmp_path: Path) -> None:
    with pytest.raises(
        TypeError, match=r"^logger is \w+, which has no debug, info, warning, error:"
    ):
        CheckpointManager(tmp_path, logger)


@pytest.mark.parametrize("monitor", [5, "", ["val_loss"]])
def test_a_monitor_that_names_no_metric_is_refused(monitor: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^monitor is .*it is the name of one metric$"):
        CheckpointManager(tmp_path, monitor=monitor, mode="min")


def test_components_that_are_no_names_are_refused(tmp_path: Path) -> None:
    made, _ = saved(tmp_path)
    wrong: Any = 5
    with pytest.raises(TypeError, match=r"^components is 5; it is a set of names$"):
        made.load_checkpoint(1, components=wrong)


def test_model_and_path_in_each_others_place_are_named(tmp_path: Path) -> None:
    wrong: Any = training().model
    with pytest.raises(TypeError, match=r"^path is Sequential, not a path$"):
        save_checkpoint(wrong, str(tmp_path / "one"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["aux", "con", "nul", "com1"])
def test_a_module_is_not_named_as_a_device_of_windows(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsavableStateError, match=f"Windows keeps {name} for a device"):
        saved(tmp_path, extra={name: torch.nn.Linear(1, 1)})
    assert os.listdir(tmp_path) == []
    saved(tmp_path, extra={name: {"a": 1}})
