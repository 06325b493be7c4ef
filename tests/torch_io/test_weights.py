"""Weight sets: what is stored, and under which name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.torch_io.dtypes import DTYPES, TORCH_DTYPES, bytes_of, file_shape, torch_shape
from smartcash_format.torch_io.weights import bare_named_parameters, live_state, unwrap, weight_set
from tests.torch_io.sources import bits, small
from tests.torch_io.written import same_bits, write_weights

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("dtype", list(DTYPES), ids=str)
def test_every_dtype_of_safetensors_round_trips_bit_for_bit(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    state = {
        "matrix": bits(dtype, 3, 4),
        "empty": torch.empty(0, 4, dtype=dtype),
        "vector": bits(dtype, 6),
    }
    if DTYPES[dtype] != "F4":
        state["scalar"] = bits(dtype, 1).reshape(())
        state["turned"] = bits(dtype, 3, 4).t()
        state["gaps"] = bits(dtype, 4, 6)[::2, 1::2]
    read, _ = write_weights(tmp_path, weight_set("model", state))
    assert set(read) == set(state)
    for name, tensor in state.items():
        assert same_bits(read[name], tensor), name


def test_the_dtypes_of_torch_that_have_no_spelling_are_known() -> None:
    known = [getattr(torch, name) for name in dir(torch)]
    dtypes = {value for value in known if isinstance(value, torch.dtype)} - set(DTYPES)
    missing = {str(dtype) for dtype in dtypes if dtype.itemsize > 1}
    assert missing == {"torch.complex32", "torch.complex128", "torch.qint32", "torch.bits16"}


def test_spellings_and_shapes_lead_back() -> None:
    assert all(TORCH_DTYPES[text] is dtype for dtype, text in DTYPES.items())
    assert file_shape("F4", (2, 3)) == (2, 6)
    assert torch_shape("F4", (2, 6)) == (2, 3)
    assert torch_shape("F4", (2, 5)) is None
    assert torch_shape("F32", (2, 5)) == (2, 5)


def test_the_bytes_of_a_tensor_are_its_memory_and_keep_it_alive() -> None:
    tensor = torch.arange(4, dtype=torch.int32)
    view = bytes_of(tensor)
    tensor[0] = 7
    assert view[:4].hex() == "07000000"
    del tensor
    torch.full((4,), 9, dtype=torch.int32)
    assert view.hex() == "07000000010000000200000003000000"


def test_a_conjugated_or_negated_view_is_stored_by_its_values(tmp_path: Path) -> None:
    z = torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64)
    state = {"z": z, "conj": z.conj(), "neg": z.conj().imag}
    read, _ = write_weights(tmp_path, weight_set("model", state))
    assert torch.equal(read["conj"], torch.conj_physical(z))
    assert torch.equal(read["neg"], -z.imag)


def test_a_model_is_stored_under_its_names_with_its_numbers(tmp_path: Path) -> None:
    model = small()
    model.get_submodule("head").requires_grad_(requires_grad=False)
    source = weight_set("model", model)
    read, written = write_weights(tmp_path, source)
    state = model.state_dict()
    assert set(read) == set(state) == set(written.tensors)
    assert all(same_bits(read[name], state[name]) for name in state)
    assert source.class_name == "Sequential"
    assert source.parameters == 112 + 8 + 10
    assert source.trainable_parameters == 112 + 8
    assert source.dtypes == {"F32": 8, "I64": 1}
    assert source.modules == {"norm": 2}
    assert source.names[id(model.get_parameter("conv.weight"))] == "conv.weight"


def test_tied_weights_are_stored_once_under_the_first_name(tmp_path: Path) -> None:
    model = nn.ModuleDict({"z_embed": nn.Embedding(5, 3), "a_head": nn.Linear(3, 5, bias=False)})
    model["a_head"].weight = model["z_embed"].weight
    source = weight_set("model", model)
    assert [t.name for t in source.tensors] == ["z_embed.weight"]
    assert source.aliases == {"a_head.weight": "z_embed.weight"}
    assert source.dtypes == {"F32": 2}
    assert source.parameters == 15
    read, _ = write_weights(tmp_path, source)
    assert set(read) == {"z_embed.weight"}


def test_views_that_are_not_the_very_same_are_each_stored_in_full(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    state = {
        "all": base,
        "again": base.view(12),
        "half": base[:6],
        "square": base.view(3, 4),
        "turned": base.view(3, 4).t(),
        "bits": base.view(torch.int32),
        "none": base[:0],
        "nothing": base[:0],
    }
    source = weight_set("model", state)
    assert source.aliases == {"again": "all"}
    read, _ = write_weights(tmp_path, source)
    assert all(same_bits(read[name], state[name]) for name in set(state) - {"again"})


def test_a_small_view_of_a_large_storage_takes_its_own_bytes_only(tmp_path: Path) -> None:
    source = weight_set("model", {"a": torch.zeros(1 << 20)[5:7], "b": torch.ones(1).expand(4)})
    assert [t.size_bytes for t in source.tensors] == [8, 16]
    write_weights(tmp_path, source)
    assert (tmp_path / "model.safetensors").stat().st_size < 400


def test_channels_last_is_stored_in_the_order_of_the_axes(tmp_path: Path) -> None:
    plain = small()
    last = copy.deepcopy(plain)
    last.get_submodule("conv").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, one = write_weights(tmp_path / "a", weight_set("model", plain))
    _, two = write_weights(tmp_path / "b", weight_set("model", last))
    assert one.digest == two.digest


class WithState(nn.Module):
    def __init__(self, state: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.state = state

    def get_extra_state(self) -> Any:
        return self.state

    def set_extra_state(self, state: Any) -> None:
        self.state = state


@pytest.mark.parametrize("state", [{"seen": 3}, torch.ones(2)], ids=["dict", "tensor"])
def test_extra_state_of_a_module_is_kept_apart_from_the_tensors(state: Any) -> None:
    source = weight_set("model", nn.Sequential(WithState(state)))
    assert [t.name for t in source.tensors] == ["0.weight"]
    assert list(source.state) == ["0._extra_state"]
    assert source.state["0._extra_state"] is state


def test_a_tensor_whose_name_only_ends_like_extra_state_is_a_tensor() -> None:
    state = {"no_extra_state": torch.ones(1), "_extra_state": torch.ones(1)}
    source = weight_set("model", state)
    assert [t.name for t in source.tensors] == ["no_extra_state"]
    assert list(source.state) == ["_extra_state"]


def test_what_of_a_plain_state_dict_is_no_tensor_is_kept_apart() -> None:
    source = weight_set("model", {"w": torch.zeros(2, 2), "epoch": 3})
    assert source.state == {"epoch": 3}
    assert source.class_name is None
    assert source.parameters == 4
    assert source.trainable_parameters is None


def test_an_object_that_has_a_state_dict_is_a_source() -> None:
    class Engine:
        def state_dict(self) -> dict[str, torch.Tensor]:
            return {"w": torch.zeros(1, requires_grad=True)}

    source = weight_set("model", Engine())
    assert [t.name for t in source.tensors] == ["w"]
    assert source.class_name == "Engine"


def wrapped_by_compile(module: nn.Module) -> Any:
    return torch.compile(module)


def wrapped_inside(module: Any) -> nn.Module:
    module.conv = torch.compile(nn.DataParallel(module.conv))
    assert isinstance(module, nn.Module)
    return module


def parallel_of_compiled(module: nn.Module) -> nn.Module:
    compiled: Any = torch.compile(module)
    return nn.DataParallel(compiled)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize(
    "wrap",
    [
        wrapped_by_compile,
        nn.DataParallel,
        lambda m: torch.compile(nn.DataParallel(m)),
        parallel_of_compiled,
        wrapped_inside,
    ],
    ids=["compile", "parallel", "compile(parallel)", "parallel(compile)", "inside"],
)
def test_wrappers_are_no_part_of_a_name(wrap: Any) -> None:
    model = small()
    names = list(model.state_dict())
    wrapped = wrap(copy.deepcopy(model))
    assert list(wrapped.state_dict()) != names
    source = weight_set("model", wrapped)
    assert [t.name for t in source.tensors] == names
    assert source.modules == {"norm": 2}
    assert source.class_name == "Sequential"
    assert [n for n, _ in bare_named_parameters(wrapped)] == [
        n for n, _ in model.named_parameters()
    ]
    live = live_state(wrapped)
    assert live.module is unwrap(wrapped)
    raw = wrapped.state_dict()
    assert set(live.paths) == {"", "conv", "norm", "head"}
    assert all(
        raw._metadata[path] == {"version": live.versions[bare]} for bare, path in live.paths.items()
    )
    assert all(raw[live.raw[n]].data_ptr() == t.data_ptr() for n, t in live.entries.items())


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_is_no_part_of_a_name() -> None:
    wrapped = nn.parallel.DistributedDataParallel(small())
    assert [t.name for t in weight_set("model", wrapped).tensors] == list(small().state_dict())


def test_a_module_of_the_users_that_is_called_module_keeps_its_name() -> None:
    model = nn.ModuleDict({"module": nn.Linear(1, 1), "_orig_mod": nn.Linear(1, 1)})
    assert [t.name for t in weight_set("model", model).tensors] == list(model.state_dict())
    averaged = torch.optim.swa_utils.AveragedModel(nn.Linear(1, 1))
    assert [t.name for t in weight_set("ema", averaged).tensors] == [
        "n_averaged",
        "module.weight",
        "module.bias",
    ]


def test_a_prefix_of_a_plain_state_dict_is_not_taken_off() -> None:
    state = nn.DataParallel(nn.Linear(1, 1)).state_dict()
    assert [t.name for t in weight_set("model", state).tensors] == ["module.weight", "module.bias"]


def test_a_subclass_that_only_adds_methods_is_stored_by_its_values(tmp_path: Path) -> None:
    class Box(torch.Tensor):
        def area(self) -> float:
            return 1.0

    value = torch.arange(4.0).as_subclass(Box)
    read, _ = write_weights(tmp_path, weight_set("model", {"box": value}))
    assert torch.equal(read["box"], torch.arange(4.0))
