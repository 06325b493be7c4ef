"""A checkpoint into live objects: what they have afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.errors import (
    CheckpointNotFoundError,
    InvalidCheckpointError,
    StateMismatchError,
    UnsupportedVersionError,
)
from smartcash_format.torch_io.dtypes import TORCH_DTYPES
from smartcash_format.torch_io.load import load_checkpoint
from tests.torch_io import handmade
from tests.torch_io.handmade import saved_model, saved_training
from tests.torch_io.live import Average, Net
from tests.torch_io.same import assert_same, bits
from tests.torch_io.zoo import Small, fresh, scheduler, stepped


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
    path = saved_training(tmp_path, saved)
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
    path = saved_training(tmp_path, saved, scheduler=live.state_dict())
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
