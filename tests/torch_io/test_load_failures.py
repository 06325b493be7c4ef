"""A load that fails has changed nothing, or says what it had restored by then."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.errors import (
    CheckpointError,
    InvalidCheckpointError,
    StateMismatchError,
    UnsafeCheckpointError,
)
from smartcash_format.spec.problems import Problem
from smartcash_format.torch_io.load import load_checkpoint
from tests.torch_io import handmade
from tests.torch_io.same import assert_same, snapshot
from tests.torch_io.zoo import Training, scheduler, stepped


class Scene:
    """A checkpoint of everything, and live objects that are elsewhere in their training."""

    def __init__(self, tmp_path: Path) -> None:
        saved = stepped("AdamW")
        cosine = scheduler("CosineAnnealingLR", saved.optimizer)
        self.path = handmade.write(
            tmp_path / "c",
            **handmade.of(saved.model, saved.optimizer),
            scheduler=cosine.state_dict(),
            extra={"rng": {"torch": torch.get_rng_state()}, "objects": {"count": {"n": 1}}},
        )
        self.live: Training = stepped("AdamW", steps=1)
        self.scheduler = scheduler("CosineAnnealingLR", self.live.optimizer)
        self.count = Count()

    def load(self, **changes: Any) -> Any:
        return load_checkpoint(
            self.path,
            **{
                "model": self.live.model,
                "optimizer": self.live.optimizer,
                "scheduler": self.scheduler,
                "extra": {"count": self.count},
                **changes,
            },
        )

    def state(self) -> Any:
        return snapshot(self.live.model, self.live.optimizer, self.scheduler, self.count)

    def assert_untouched(self, error: type[CheckpointError], **changes: Any) -> CheckpointError:
        before = self.state()
        with pytest.raises(error) as caught:
            self.load(**changes)
        assert_same(self.state(), before)
        return caught.value

    def rewrite(self, file: str, change: Callable[[Any], None]) -> None:
        """Changes the state in a torch file, and makes meta.json agree with it."""
        state = torch.load(self.path / file, weights_only=True)
        change(state)
        torch.save(state, self.path / file)
        handmade.reseal(self.path)


class Count:
    def __init__(self) -> None:
        self.n = 0

    def state_dict(self) -> dict[str, Any]:
        return {"n": self.n}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.n = state["n"]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_the_scene_loads(scene: Scene) -> None:
    result = scene.load(components={"model", "optimizer", "scheduler", "extra"})
    assert result.restored == ("model", "optimizer", "scheduler", "count")
    assert scene.count.n == 1


def test_another_model_changes_nothing(scene: Scene) -> None:
    error = scene.assert_untouched(StateMismatchError, model=nn.Linear(3, 3))
    assert isinstance(error, StateMismatchError)
    assert {problem.code for problem in error.problems} >= {"tensor-missing", "tensor-unexpected"}


def test_all_problems_of_all_components_stand_in_one_error(scene: Scene) -> None:
    def poison(state: Any) -> None:
        state["param_groups"][0]["lr"] = 1e30
        state["state"][0]["exp_avg"] = torch.zeros(9)

    scene.rewrite("optimizer.pt", poison)
    scene.rewrite("scheduler.pt", lambda state: state.update(step=1))
    error = scene.assert_untouched(
        StateMismatchError, extra={"count": scene.count, "other": Count()}
    )
    assert isinstance(error, StateMismatchError)
    assert {problem.code for problem in error.problems} == {
        "hyperparameter",
        "optimizer-state",
        "scheduler-key",
        "extra-missing",
    }


@pytest.mark.parametrize(
    "poison",
    [
        lambda state: state["param_groups"][0].update(betas=(2, 5)),
        lambda state: state["param_groups"][0].update(invented=1),
        lambda state: state["param_groups"].append(state["param_groups"][0]),
        lambda state: state["state"][1].pop("step"),
        lambda state: state["state"].update({99: {}}),
        lambda state: state.pop("state"),
    ],
)
def test_poisoned_optimizer_state_changes_nothing(
    poison: Callable[[Any], None], scene: Scene
) -> None:
    scene.rewrite("optimizer.pt", poison)
    scene.assert_untouched(StateMismatchError)


@pytest.mark.parametrize("key", ["optimizer", "get_lr", "load_state_dict", "__dict__"])
def test_a_poisoned_scheduler_changes_nothing(key: str, scene: Scene) -> None:
    scene.rewrite("scheduler.pt", lambda state: state.update({key: 1}))
    scene.assert_untouched(StateMismatchError)
    scene.assert_untouched(StateMismatchError, strict=False)


@pytest.mark.attack("load", "a flipped bit anywhere", "digest-mismatch, or what it breaks first")
@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.pt", "scheduler.pt", "extra.pt", "tensors.json"]
)
@pytest.mark.parametrize("place", [0.3, 0.6, 0.99])
def test_a_flipped_bit_in_any_part_changes_nothing(file: str, place: float, scene: Scene) -> None:
    data = bytearray((scene.path / file).read_bytes())
    data[int(len(data) * place)] ^= 4
    (scene.path / file).write_bytes(data)
    scene.assert_untouched(CheckpointError)


@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.pt", "scheduler.pt", "extra.pt", "tensors.json"]
)
def test_a_truncated_or_missing_part_changes_nothing(file: str, scene: Scene) -> None:
    data = (scene.path / file).read_bytes()
    (scene.path / file).write_bytes(data[:-1])
    error = scene.assert_untouched(InvalidCheckpointError)
    assert f"{len(data) - 1:,} bytes instead of {len(data):,}" in str(error)
    (scene.path / file).unlink()
    error = scene.assert_untouched(InvalidCheckpointError)
    assert file in str(error)


def test_a_digest_of_an_unknown_algorithm_is_a_refusal_under_verify(scene: Scene) -> None:
    files = load_checkpoint(scene.path).meta.files  # type: ignore[union-attr]
    odd = {
        name: record.model_copy(update={"digest": f"blake9:{'0' * 64}"})
        for name, record in files.items()
    }
    meta = load_checkpoint(scene.path).meta
    assert meta is not None
    from smartcash_format.spec.meta import encode_meta

    (scene.path / "meta.json").write_bytes(encode_meta(meta.model_copy(update={"files": odd})))
    error = scene.assert_untouched(InvalidCheckpointError)
    assert "blake9" in str(error) or "does not know" in str(error)
    scene.load(verify=False, components={"model"})


def test_weights_alone_need_nothing_of_a_damaged_state_beside_them(scene: Scene) -> None:
    file = scene.path / "extra.pt"
    data = bytearray(file.read_bytes())
    state = bytes(torch.get_rng_state())
    data[data.index(state) + len(state) // 2] ^= 1
    file.write_bytes(data)
    scene.assert_untouched(InvalidCheckpointError)
    alone = {"optimizer": None, "scheduler": None, "extra": None}
    assert scene.load(**alone).restored == ("model",)
    assert scene.load(components={"model"})["model_state_dict"].keys()
    with pytest.raises(InvalidCheckpointError):
        scene.load(components={"model", "rng"})


def test_the_state_of_a_module_that_is_no_tensor_is_verified_with_its_weights(
    tmp_path: Path,
) -> None:
    path = handmade.write(
        tmp_path / "c",
        weights={"model": {"w": torch.zeros(2)}},
        extra={"modules": {"model": {"_extra_state": torch.arange(50.0)}}},
    )
    data = bytearray((path / "extra.pt").read_bytes())
    data[data.index(bytes(torch.arange(50.0).untyped_storage()))] ^= 1
    (path / "extra.pt").write_bytes(data)
    live = {"w": torch.ones(2), "_extra_state": torch.zeros(50)}
    with pytest.raises(InvalidCheckpointError, match=r"extra\.pt"):
        load_checkpoint(path, model=live)
    assert live["w"].tolist() == [1, 1]


class Evil:
    def __reduce__(self) -> Any:
        return (os.system, ("touch /tmp/smartcash-format-was-here",))


@pytest.mark.attack("load", "a torch file that would run code", "`UnsafeCheckpointError`")
def test_a_torch_file_that_would_run_code_is_not_opened(scene: Scene) -> None:
    torch.save({"state": {}, "param_groups": [], "x": Evil()}, scene.path / "optimizer.pt")
    handmade.reseal(scene.path)
    error = scene.assert_untouched(UnsafeCheckpointError)
    assert isinstance(error, UnsafeCheckpointError)
    assert error.file == "optimizer.pt"
    assert "system" in str(error)


def test_a_part_that_is_not_wanted_is_not_looked_into(scene: Scene) -> None:
    torch.save({"x": Evil()}, scene.path / "optimizer.pt")
    handmade.reseal(scene.path)
    result = load_checkpoint(scene.path, model=scene.live.model)
    assert result.restored == ("model",)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(rng={"torch": torch.zeros(3, dtype=torch.uint8)}),
        lambda state: state.update(rng=[1]),
        lambda state: state["objects"].update(count={"$type": "unheard of"}),
        lambda state: state["objects"].update(count={"$type": "set"}),
    ],
)
def test_a_damaged_state_is_found_before_anything_changes(
    change: Callable[[Any], None], scene: Scene
) -> None:
    scene.rewrite("extra.pt", change)
    scene.assert_untouched(InvalidCheckpointError)


class Refuses(Count):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise ValueError("not mine")


def test_an_object_that_refuses_its_state_comes_last_and_is_named(scene: Scene) -> None:
    with pytest.raises(CheckpointError, match="ValueError: not mine") as caught:
        scene.load(
            extra={"count": Refuses()}, components={"model", "optimizer", "scheduler", "extra"}
        )
    assert "count did not take its state" in str(caught.value)
    assert "and may have a part of it; " in str(caught.value)
    assert "restored by then: model, optimizer, scheduler" in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)


class Stubborn(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"n": 1}

    def set_extra_state(self, state: Any) -> None:
        raise RuntimeError("no extra state")


def test_extra_state_that_a_module_refuses_comes_after_all_tensors(tmp_path: Path) -> None:
    saved = nn.Sequential(Stubborn(2, 2), nn.Linear(2, 2))
    tensors = {k: v for k, v in saved.state_dict().items() if "extra" not in k}
    path = handmade.write(
        tmp_path / "c",
        weights={"model": tensors},
        extra={"modules": {"model": {"0._extra_state": {"n": 2}}}},
    )
    live = nn.Sequential(Stubborn(2, 2), nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match="no extra state"):
        load_checkpoint(path, model=live)
    assert_same({k: v for k, v in live.state_dict().items() if "extra" not in k}, tensors)


HOSTILE = """
import os, sys, torch
def forced(*args, **kwargs):
    raise SystemExit("the replaced torch.load was called")
torch.load = forced
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
from smartcash_format.torch_io.load import load_checkpoint
from smartcash_format.errors import UnsafeCheckpointError
from tests.torch_io.zoo import fresh
for path in sys.argv[1:]:
    live = fresh("SGD")
    try:
        load_checkpoint(path, model=live.model, optimizer=live.optimizer)
        print("loaded")
    except UnsafeCheckpointError:
        print("refused")
"""


@pytest.mark.no_cover
@pytest.mark.attack(
    "load", "an environment variable or a program that turns `weights_only` off", "no difference"
)
def test_neither_the_environment_nor_a_replaced_torch_load_opens_the_door(tmp_path: Path) -> None:
    saved = stepped("SGD")
    clean, evil = tmp_path / "clean", tmp_path / "evil"
    for path in (clean, evil):
        handmade.write(path, **handmade.of(saved.model, saved.optimizer))
    torch.save({**saved.optimizer.state_dict(), "x": Evil()}, evil / "optimizer.pt")
    handmade.reseal(evil)
    ran = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(clean), str(evil)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.split() == ["loaded", "refused"], ran.stderr


def test_problems_are_values(scene: Scene) -> None:
    error = scene.assert_untouched(StateMismatchError, model=nn.Linear(3, 3))
    assert isinstance(error, StateMismatchError)
    assert all(isinstance(problem, Problem) for problem in error.problems)
