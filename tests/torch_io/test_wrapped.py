"""What accelerate and Lightning give in an object's place is saved and loaded as what it wraps."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from smartcash_format import load_checkpoint, read_meta, save_checkpoint
from tests.torch_io.same import assert_same, snapshot
from tests.torch_io.zoo import fresh, scheduler, stepped


class AcceleratedOptimizer(torch.optim.Optimizer):
    """As accelerate 1.x has it: an Optimizer that hands everything on."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    @property
    def state(self) -> Any:
        return self.optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        self.optimizer.state = state

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: Any) -> None:
        self.optimizer.param_groups = groups

    def state_dict(self) -> Any:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.optimizer.load_state_dict(state)


class AcceleratedScheduler:
    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def state_dict(self) -> Any:
        return self.scheduler.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.scheduler.load_state_dict(state)


@pytest.fixture(autouse=True)
def accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, kind in (("optimizer", AcceleratedOptimizer), ("scheduler", AcceleratedScheduler)):
        module = ModuleType(f"accelerate.{place}")
        setattr(module, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, module.__name__, module)


def assert_taken_over(path: Path, saved: tuple[Any, Any], loaded: tuple[Any, Any]) -> None:
    """What is saved of the first two is of their own classes, and is what the others load."""
    one, two = stepped("AdamW"), fresh("AdamW")
    (wrap, around), (wrap_too, around_too) = saved, loaded
    save_checkpoint(path, wrap(one.model), around(one.optimizer))
    meta = read_meta(path)
    assert meta.weights["model"].class_name == type(one.model).__name__
    assert meta.optimizer is not None
    assert meta.optimizer.class_name == "AdamW"
    result = load_checkpoint(path, model=wrap_too(two.model), optimizer=around_too(two.optimizer))
    assert result.notes == ()
    assert_same(snapshot(two.model, two.optimizer), snapshot(one.model, one.optimizer))


def as_it_is(live: Any) -> Any:
    return live


def prepared(optimizer: Any, live: Any, *, wrapped: bool) -> dict[str, Any]:
    if not wrapped:
        return {"optimizer": optimizer, "scheduler": live}
    return {"optimizer": AcceleratedOptimizer(optimizer), "scheduler": AcceleratedScheduler(live)}


@pytest.mark.parametrize("there", [True, False], ids=["saved wrapped", "saved bare"])
@pytest.mark.parametrize("here", [True, False], ids=["loaded wrapped", "loaded bare"])
def test_a_prepared_optimizer_and_a_bare_one_take_each_others_state(
    tmp_path: Path, there: bool, here: bool
) -> None:
    one = stepped("AdamW")
    live = scheduler("StepLR", one.optimizer)
    path = tmp_path / "c"
    objects = prepared(one.optimizer, live, wrapped=there)
    save_checkpoint(path, one.model, **objects, extra={"second": objects["optimizer"]})
    meta = read_meta(path)
    assert meta.optimizer is not None
    assert meta.optimizer.class_name == "AdamW"
    assert meta.scheduler is not None
    assert meta.scheduler.class_name == "StepLR"
    two = fresh("AdamW")
    other = scheduler("StepLR", two.optimizer)
    objects = prepared(two.optimizer, other, wrapped=here)
    result = load_checkpoint(
        path, model=two.model, **objects, extra={"second": objects["optimizer"]}
    )
    assert result.notes == ()
    assert_same(snapshot(two.model, two.optimizer, other), snapshot(one.model, one.optimizer, live))


def test_a_checkpoint_that_has_the_name_of_the_wrapper_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = stepped("AdamW")
    with monkeypatch.context() as patched:
        patched.delitem(sys.modules, "accelerate.optimizer")
        save_checkpoint(tmp_path / "c", one.model, AcceleratedOptimizer(one.optimizer))
    meta = read_meta(tmp_path / "c")
    assert meta.optimizer is not None
    assert meta.optimizer.class_name == "AcceleratedOptimizer"
    two = fresh("AdamW")
    load_checkpoint(tmp_path / "c", model=two.model, optimizer=AcceleratedOptimizer(two.optimizer))
    assert_same(snapshot(two.model, two.optimizer), snapshot(one.model, one.optimizer))


def test_a_wrapper_whose_inside_is_no_optimizer_stays(tmp_path: Path) -> None:
    class Elsewhere:
        """An engine that has the optimizer's state on other machines."""

        param_groups: tuple[Any, ...] = ()

        def state_dict(self) -> Any:
            return {"state": {}, "param_groups": []}

    one = fresh("AdamW")
    save_checkpoint(tmp_path / "c", one.model, AcceleratedOptimizer(Elsewhere()))
    meta = read_meta(tmp_path / "c")
    assert meta.optimizer is not None
    assert meta.optimizer.class_name == "AcceleratedOptimizer"


class _FabricModule(torch.nn.Module):
    """As Fabric 2.x has it: the state of what it wraps, and other names for its parameters."""

    def __init__(self, forward_module: torch.nn.Module, module: torch.nn.Module) -> None:
        super().__init__()
        self._forward_module = forward_module
        self._original_module = module

    @property
    def module(self) -> torch.nn.Module:
        return self._original_module

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self._original_module.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        return self._original_module.load_state_dict(state_dict, *args, **kwargs)


class _FabricOptimizer:
    """As Fabric 2.x has it: of a class made up of itself and of what it wraps."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        kind = type(optimizer)
        self.__class__ = type("Fabric" + kind.__name__, (type(self), kind), {})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)

    def state_dict(self) -> Any:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.optimizer.load_state_dict(state)


@pytest.fixture(params=["lightning_fabric.wrappers", "lightning.fabric.wrappers"])
def fabric(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(request.param)
    for kind in (_FabricModule, _FabricOptimizer):
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, request.param, module)


@pytest.mark.usefixtures("fabric")
@pytest.mark.parametrize("there", [True, False], ids=["saved wrapped", "saved bare"])
@pytest.mark.parametrize("here", [True, False], ids=["loaded wrapped", "loaded bare"])
def test_what_fabric_has_set_up_and_what_is_bare_take_each_others_state(
    tmp_path: Path, there: bool, here: bool
) -> None:
    def module(model: torch.nn.Module) -> _FabricModule:
        return _FabricModule(torch.nn.DataParallel(model), model)

    ways = {True: (module, _FabricOptimizer), False: (as_it_is, as_it_is)}
    assert_taken_over(tmp_path / "c", ways[there], ways[here])


@pytest.mark.usefixtures("fabric")
def test_a_module_that_runs_as_another_stays_what_it_is(tmp_path: Path) -> None:
    """FSDP in Fabric: what it wraps has a part of the weights, and FSDP itself is refused."""
    one = fresh("AdamW")
    save_checkpoint(tmp_path / "c", _FabricModule(torch.nn.Sequential(one.model), one.model))
    assert read_meta(tmp_path / "c").weights["model"].class_name == "_FabricModule"


@pytest.mark.parametrize(
    "place", ["lightning.pytorch.core.optimizer", "pytorch_lightning.core.optimizer"]
)
def test_the_optimizer_that_a_lightning_module_sees_is_the_one_it_wraps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    class LightningOptimizer(_FabricOptimizer):
        """As Lightning 2.x has it: its state is that of an optimizer without parameters."""

        def state_dict(self) -> Any:
            raise AttributeError("state")

    module = ModuleType(place)
    monkeypatch.setattr(module, "LightningOptimizer", LightningOptimizer, raising=False)
    monkeypatch.setitem(sys.modules, place, module)
    way = as_it_is, LightningOptimizer
    assert_taken_over(tmp_path / "c", way, way)
