"""A checkpoint into live objects: what they have afterwards, and what the result says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    InvalidCheckpointError,
    StateMismatchError,
    UnsupportedVersionError,
)
from smartcash_format.torch_io.dtypes import TORCH_DTYPES
from smartcash_format.torch_io.load import load_checkpoint
from smartcash_format.torch_io.read_state import load_tensors
from smartcash_format.torch_io.result import LoadResult
from tests.torch_io import handmade
from tests.torch_io.same import assert_same, bits, snapshot
from tests.torch_io.zoo import Small, fresh, scheduler, stepped


def saved_model(tmp_path: Path, model: nn.Module | Mapping[str, Any], **facts: Any) -> Path:
    state = model.state_dict() if isinstance(model, nn.Module) else model
    return handmade.write(tmp_path / "c", weights={"model": dict(state)}, **facts)


class Net(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, classes)
        self.register_buffer("anchors", torch.arange(6.0))
        self.register_buffer("cache", torch.zeros(2), persistent=False)


def test_weights_are_copied_into_the_parameters_that_are_there(tmp_path: Path) -> None:
    torch.manual_seed(1)
    path = saved_model(tmp_path, saved := Net())
    live = Net()
    identities = {name: id(p) for name, p in live.named_parameters()}
    addresses = {name: p.data_ptr() for name, p in live.named_parameters()}
    live.get_buffer("cache").fill_(7.0)
    result = load_checkpoint(path, model=live)
    assert_same(live.state_dict(), saved.state_dict())
    assert {name: id(p) for name, p in live.named_parameters()} == identities
    assert {name: p.data_ptr() for name, p in live.named_parameters()} == addresses
    assert live.get_buffer("cache").tolist() == [7.0, 7.0]
    assert result.restored == ("model",)


def test_nothing_live_is_backed_by_the_file_afterwards(tmp_path: Path) -> None:
    saved = stepped("Adam")
    path = handmade.write(tmp_path / "c", **handmade.of(saved.model, saved.optimizer))
    live = fresh("Adam")
    load_checkpoint(path, model=live.model, optimizer=live.optimizer)
    for file in path.iterdir():
        file.write_bytes(b"")  # a live tensor that is mapped would end the process here
    live.step()
    maps = Path("/proc/self/maps")
    assert str(path) not in (maps.read_text() if maps.exists() else "")


class Keeps(nn.Module):
    """A module that puts what it is given in place of its parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(5))

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        self.w = nn.Parameter(state[f"{prefix}w"])


def test_a_module_that_keeps_what_it_is_given_gets_memory_of_its_own(tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"w": torch.arange(5.0)})
    live = Keeps()
    load_checkpoint(path, model=live)
    (path / "model.safetensors").write_bytes(b"")
    assert live.w.tolist() == [0, 1, 2, 3, 4]


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(5))
        register: Any = self.register_load_state_dict_pre_hook
        register(self.twice)

    @staticmethod
    def twice(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        state[f"{prefix}w"].mul_(2)


def test_a_hook_that_changes_what_it_is_given_changes_no_file(tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"w": torch.arange(5.0)})
    before = (path / "model.safetensors").read_bytes()
    load_checkpoint(path, model=(live := InPlace()))
    assert live.w.tolist() == [0, 2, 4, 6, 8]
    assert (path / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("dtype", sorted(TORCH_DTYPES.values(), key=str), ids=str)
def test_every_dtype_comes_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    raw = torch.randint(0, 256, (4, 16), dtype=torch.uint8, generator=torch.manual_seed(0))
    values = raw % 2 == 1 if dtype is torch.bool else raw.view(dtype)
    tensors = {"full": values, "scalar": values[0, 0].clone(), "none": values[:0].clone()}
    if "x2" in str(dtype):
        del tensors["scalar"]  # pairs of 4 bits have no form without an axis
    path = saved_model(tmp_path, tensors)
    live = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
    load_checkpoint(path, model=live)
    assert_same(live, tensors)
    assert_same(dict(load_checkpoint(path)["model_state_dict"]), tensors)


def test_a_byte_of_two_in_a_boolean_tensor_is_true(tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"flags": torch.tensor([True, False, True])})
    file = path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3:] = b"\x02\x00\xff"
    file.write_bytes(data)
    handmade.reseal(path)
    # tensors.json still has the digest of what was there.
    flags = load_checkpoint(path, verify=False)["model_state_dict"]["flags"]
    assert bits(flags) == b"\x01\x00\x01"


def test_another_dtype_is_cast_and_listed(tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"w": torch.tensor([1.5, 2.5])})
    live = {"w": torch.zeros(2, dtype=torch.bfloat16)}
    result = load_checkpoint(path, model=live)
    assert_same(live["w"], torch.tensor([1.5, 2.5], dtype=torch.bfloat16))
    assert [str(cast) for cast in result.cast] == ["w (F32 to BF16)"]


def test_complex_values_do_not_become_real_ones(tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"w": torch.ones(2, dtype=torch.complex64)})
    with pytest.raises(StateMismatchError, match="cannot become F32"):
        load_checkpoint(path, model={"w": torch.zeros(2)})


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="eager")


@pytest.mark.parametrize("wrap", [nn.DataParallel, compiled])
def test_a_checkpoint_of_the_bare_model_loads_into_the_wrapped_one(
    wrap: Any, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    path = saved_model(tmp_path, saved := Net())
    bare = Net()
    load_checkpoint(path, model=wrap(bare))
    assert_same(bare.state_dict(), saved.state_dict())


def test_a_wrapper_inside_the_model_is_no_part_of_the_names(tmp_path: Path) -> None:
    torch.manual_seed(1)
    path = saved_model(tmp_path, saved := Net())
    live = Net()
    body = live.body
    live.body = compiled(body)
    load_checkpoint(path, model=live)
    assert_same(body.state_dict(), saved.body.state_dict())


class Tied(nn.Module):
    def __init__(self, *, tied: bool = True) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3, bias=False)
        self.b = nn.Linear(3, 3, bias=False)
        if tied:
            self.b.weight = self.a.weight


def test_tied_weights_come_back_tied_and_an_untied_model_gets_both(tmp_path: Path) -> None:
    saved = Tied()
    state = saved.state_dict()
    path = handmade.write(
        tmp_path / "c", weights={"model": state}, aliases={"b.weight": "a.weight"}
    )
    tied, untied = Tied(), Tied(tied=False)
    load_checkpoint(path, model=tied)
    load_checkpoint(path, model=untied)
    assert tied.b.weight is tied.a.weight
    assert_same(tied.state_dict(), state)
    assert_same(untied.state_dict(), state)
    assert untied.b.weight is not untied.a.weight
    found = load_checkpoint(path)["model_state_dict"]
    assert found["a.weight"] is found["b.weight"]


def test_channels_last_stays_and_gets_the_values(tmp_path: Path) -> None:
    torch.manual_seed(1)
    path = saved_model(tmp_path, saved := nn.Conv2d(3, 4, 3))
    live = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    load_checkpoint(path, model=live)
    assert live.weight.is_contiguous(memory_format=torch.channels_last)
    assert_same(live.state_dict(), saved.state_dict())


class Versioned(nn.Linear):
    _version = 3
    seen: Any = None

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
        type(self).seen = metadata.get("version")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_a_module_sees_the_version_that_it_was_saved_with(tmp_path: Path) -> None:
    saved = nn.Sequential(Versioned(2, 2))
    path = saved_model(tmp_path, saved, versions={"0": 2})
    load_checkpoint(path, model=nn.Sequential(Versioned(2, 2)))
    assert Versioned.seen == 2
    state = load_checkpoint(path)["model_state_dict"]
    assert state._metadata["0"] == {"version": 2}


class Counting(nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 2)
        self.count = 0

    def get_extra_state(self) -> Any:
        return {"count": self.count}

    def set_extra_state(self, state: Any) -> None:
        self.count = state["count"]


def saved_counting(tmp_path: Path) -> Path:
    model = nn.Sequential(Counting())
    state = {"0._extra_state": {"count": 5}}
    tensors = {k: v for k, v in model.state_dict().items() if k not in state}
    return handmade.write(
        tmp_path / "c", weights={"model": tensors}, extra={"modules": {"model": state}}
    )


def test_the_extra_state_of_a_module_comes_back(tmp_path: Path) -> None:
    path = saved_counting(tmp_path)
    live: Any = nn.Sequential(Counting())
    load_checkpoint(path, model=live)
    assert live[0].count == 5
    assert load_checkpoint(path)["model_state_dict"]["0._extra_state"] == {"count": 5}


def test_extra_state_that_one_side_lacks_is_named(tmp_path: Path) -> None:
    path = saved_counting(tmp_path)
    with pytest.raises(StateMismatchError) as caught:
        load_checkpoint(path, model=nn.Sequential(nn.Linear(2, 2)))
    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == ("tensor-unexpected", "0._extra_state")
    result = load_checkpoint(path, model=nn.Sequential(nn.Linear(2, 2)), strict=False)
    assert result.unexpected == ("0._extra_state",)


def test_a_lazy_module_takes_the_shape_that_was_saved(tmp_path: Path) -> None:
    torch.manual_seed(1)
    path = saved_model(tmp_path, saved := nn.Linear(3, 2))
    live = nn.LazyLinear(2)
    load_checkpoint(path, model=live)
    assert_same(live.state_dict(), saved.state_dict())


def test_a_model_on_the_meta_device_is_told_what_to_do(tmp_path: Path) -> None:
    path = saved_model(tmp_path, nn.Linear(3, 2))
    with torch.device("meta"):
        live = nn.Linear(3, 2)
    with pytest.raises(StateMismatchError, match="to_empty"):
        load_checkpoint(path, model=live)


class Average:
    """An object of someone else's with state_dict and load_state_dict."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"w": torch.zeros(3), "decay": 0.5}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.state = dict(state)


def test_an_object_with_load_state_dict_gets_memory_of_its_own(tmp_path: Path) -> None:
    path = handmade.write(
        tmp_path / "c",
        weights={"model": {"w": torch.arange(3.0)}},
        extra={"modules": {"model": {"decay": 0.9}}},
    )
    live = Average()
    load_checkpoint(path, model=live)
    (path / "model.safetensors").write_bytes(b"")
    assert_same(live.state, {"w": torch.arange(3.0), "decay": 0.9})


def test_a_plain_state_dict_is_filled_in_place(tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"w": torch.arange(3.0)})
    tensor = torch.zeros(3)
    live = {"w": tensor}
    load_checkpoint(path, model=live)
    assert live["w"] is tensor
    assert tensor.tolist() == [0, 1, 2]


def test_a_plain_optimizer_and_scheduler_dict_are_replaced(tmp_path: Path) -> None:
    saved = stepped("Adam")
    live = scheduler("StepLR", saved.optimizer)
    path = handmade.write(
        tmp_path / "c", **handmade.of(saved.model, saved.optimizer), scheduler=live.state_dict()
    )
    optimizer_state: dict[str, Any] = {"old": 1}
    scheduler_state: dict[str, Any] = {}
    load_checkpoint(path, optimizer=optimizer_state, scheduler=scheduler_state)
    assert_same(optimizer_state, saved.optimizer.state_dict())
    assert_same(scheduler_state, live.state_dict())


class Foreign:
    """An optimizer of someone else's whose state has a form of its own."""

    param_groups: tuple[Any, ...] = ()

    def __init__(self) -> None:
        self.inner = {"count": 1}

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.inner}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.inner = state["inner"]


def test_an_optimizer_with_a_form_of_its_own_gets_its_state_as_it_is(tmp_path: Path) -> None:
    groups: list[Any] = []
    path = handmade.write(tmp_path / "c", optimizer={"inner": {"count": 5}, "param_groups": groups})
    live = Foreign()
    result = load_checkpoint(path, optimizer=live)
    assert live.inner == {"count": 5}
    assert result.restored == ("optimizer",)


def test_not_strict_loads_what_fits_and_lists_the_rest(tmp_path: Path) -> None:
    torch.manual_seed(1)
    path = saved_model(tmp_path, saved := Net(classes=3))
    live = Net(classes=7)
    head = {name: tensor.clone() for name, tensor in live.head.state_dict().items()}
    result = load_checkpoint(path, model=live, strict=False)
    assert_same(live.body.state_dict(), saved.body.state_dict())
    assert_same(dict(live.head.state_dict()), head)
    assert [str(item) for item in result.mismatched] == [
        "head.weight ([3, 4] in the checkpoint, [7, 4] here)",
        "head.bias ([3] in the checkpoint, [7] here)",
    ]


def test_not_strict_leaves_fresh_the_optimizer_state_of_what_was_not_loaded(tmp_path: Path) -> None:
    def training(classes: int) -> tuple[Net, torch.optim.Adam]:
        model = Net(classes)
        optimizer = torch.optim.Adam(model.parameters())
        model.head(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        return model, optimizer

    model, optimizer = training(3)
    path = handmade.write(tmp_path / "c", **handmade.of(model, optimizer))
    live, live_optimizer = training(7)
    live_optimizer.state.clear()
    result = load_checkpoint(path, model=live, optimizer=live_optimizer, strict=False)
    assert live_optimizer.state[live.head.weight] == {}
    assert any("fresh state" in note and "head.weight" in note for note in result.notes)


def test_not_strict_with_nothing_that_fits_raises(tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"w": torch.zeros(3)})
    with pytest.raises(StateMismatchError):
        load_checkpoint(path, model={"v": torch.zeros(3)}, strict=False)


@pytest.mark.parametrize(
    ("component", "advice"),
    [
        ("model", "model=None"),
        ("optimizer", "save_optimizer=False"),
        ("scheduler", "scheduler=None"),
    ],
)
def test_what_is_asked_for_and_absent_raises_unless_not_strict(
    component: str, advice: str, tmp_path: Path
) -> None:
    path = handmade.write(tmp_path / "c", weights={"other": {"w": torch.zeros(1)}})
    training = fresh("SGD")
    live = {
        "model": training.model,
        "optimizer": training.optimizer,
        "scheduler": scheduler("StepLR", training.optimizer),
    }[component]
    with pytest.raises(StateMismatchError, match=advice) as caught:
        load_checkpoint(path, **{component: live})
    assert caught.value.problems[0].code == "component-absent"
    result = load_checkpoint(path, strict=False, **{component: live})
    assert component in result.absent
    assert component not in result.restored


def test_a_weights_only_load_changes_nothing_but_the_model(tmp_path: Path) -> None:
    saved = stepped("Adam")
    state = torch.Generator().manual_seed(5).get_state()
    path = handmade.write(
        tmp_path / "c",
        **handmade.of(saved.model, saved.optimizer),
        extra={"rng": {"torch": state}},
    )
    before = torch.get_rng_state()
    live = fresh("Adam")
    result = load_checkpoint(path, model=live.model)
    assert result.restored == ("model",)
    assert_same(torch.get_rng_state(), before)


def test_components_restore_what_they_name_and_read_nothing_else(tmp_path: Path) -> None:
    saved = stepped("Adam")
    path = handmade.write(tmp_path / "c", **handmade.of(saved.model, saved.optimizer))
    file = path / "optimizer.pt"
    file.write_bytes(bytes(file.stat().st_size))
    live = fresh("Adam")
    result = load_checkpoint(path, model=live.model, optimizer=live.optimizer, components={"model"})
    assert result.restored == ("model",)
    assert not live.optimizer.state


@pytest.mark.parametrize("components", [{"weights"}, {"optimizer"}, "model"])
def test_a_component_that_cannot_be_restored_is_named(components: Any, tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"w": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="components"):
        load_checkpoint(path, components=components)


def test_a_live_object_without_load_state_dict_is_named(tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"w": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="int, which has no load_state_dict"):
        load_checkpoint(path, model=3)


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
    path = handmade.write(
        tmp_path / "c",
        **handmade.of(saved.model, saved.optimizer),
        extra={"objects": {"scaler": {"scale": 2.0}}},
    )
    live = fresh("SGD")
    result = load_checkpoint(path, model=live.model, optimizer=live.optimizer)
    assert any("also has scaler" in note for note in result.notes)


def test_the_result_says_what_the_checkpoint_says(tmp_path: Path) -> None:
    path = saved_model(
        tmp_path,
        {"w": torch.zeros(1)},
        epoch=7,
        step=70,
        metrics={"loss": 0.5},
        config={"lr": 1},
    )
    result = load_checkpoint(path)
    assert result.found
    assert (result["epoch"], result["step"], result["metrics"]) == (7, 70, {"loss": 0.5})
    assert result["config"] == {"lr": 1}
    assert isinstance(result["timestamp"], datetime)
    assert result["timestamp"].tzinfo is not None
    assert result["loaded_from"] == path
    assert result.get("epoch", 0) == 7
    assert "epoch=7, step=70" in repr(result)
    assert "optimizer_state_dict" not in result
    with pytest.raises(KeyError):
        result["optimizer_state_dict"]


def test_states_are_read_only_when_they_are_asked_for(tmp_path: Path) -> None:
    saved = stepped("Adam")
    path = handmade.write(tmp_path / "c", **handmade.of(saved.model, saved.optimizer))
    result = load_checkpoint(path)
    assert len(result) == 8
    assert "model_state_dict" in result
    assert list(result)[-2:] == ["model_state_dict", "optimizer_state_dict"]
    assert_same(result["optimizer_state_dict"], saved.optimizer.state_dict())
    damaged = bytearray((path / "optimizer.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (path / "optimizer.pt").write_bytes(damaged)
    assert repr(result)
    assert result == result
    with pytest.raises(InvalidCheckpointError, match="digest-mismatch"):
        result["optimizer_state_dict"]


def test_a_state_of_another_checkpoint_at_the_same_path_is_not_given_out(tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"w": torch.zeros(1)})
    result = load_checkpoint(path)
    handmade.reseal(path, epoch=99)
    with pytest.raises(CheckpointNotFoundError, match="another checkpoint"):
        result["model_state_dict"]


def test_an_empty_result_serves_a_fresh_run() -> None:
    nothing = LoadResult()
    assert not nothing.found
    assert nothing.get("epoch", 0) == 0
    assert dict(nothing) == {}
    assert nothing.restored == ()
    assert repr(nothing) == "LoadResult(found=False)"


def test_tensors_are_read_by_a_pattern_with_their_own_digests(tmp_path: Path) -> None:
    tensors = {"head.w": torch.arange(4.0), "head.b": torch.ones(2), "body.w": torch.zeros(3)}
    path = saved_model(tmp_path, tensors)
    found = load_tensors(path, "head.*")
    assert_same(found, {name: tensors[name] for name in ("head.b", "head.w")})
    file = path / "model.safetensors"
    data = bytearray(file.read_bytes())
    place = bytes(data).index(tensors["head.w"].numpy().tobytes())
    data[place] ^= 1
    file.write_bytes(data)
    assert_same(load_tensors(path, "body.w"), {"body.w": tensors["body.w"]})
    with pytest.raises(InvalidCheckpointError, match=r"head\.w"):
        load_tensors(path, "head.w")
    assert load_tensors(path, "head.w", verify=False).keys() == {"head.w"}
    assert load_tensors(path, "nothing") == {}
    assert load_tensors(path, weight_set="ema") == {}


def test_a_pickle_is_answered_with_the_command_that_converts_it(tmp_path: Path) -> None:
    file = tmp_path / "old.pth"
    torch.save({"model_state_dict": {}}, file)
    with pytest.raises(
        InvalidCheckpointError, match=r"smartcash-format convert .*old\.pth -o ROOT"
    ):
        load_checkpoint(file)


def test_nothing_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError):
        load_checkpoint(tmp_path / "none")


def test_a_newer_format_says_so_before_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.mkdir()
    (path / "meta.json").write_text(
        '{"format": "smartcash-checkpoint", "format_version": "2.0", "new": 1}'
    )
    with pytest.raises(UnsupportedVersionError, match="newer"):
        load_checkpoint(path, model=Small())
