"""Weight sets: what is stored, under which name, and what is refused with which sentence."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec import limits
from smartcash_format.torch_io.dtypes import DTYPES, TORCH_DTYPES, bytes_of, file_shape, torch_shape
from smartcash_format.torch_io.statistics import measure, statistics
from smartcash_format.torch_io.weights import bare_named_parameters, live_state, unwrap, weight_set
from tests.torch_io.written import same_bits, write_weights

pytestmark = pytest.mark.torch


def small() -> nn.Module:
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), head=nn.Linear(4, 2))
    )


def bits(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """A tensor of every kind of bit pattern that the dtype may have."""
    generator = torch.Generator().manual_seed(0)
    if dtype is torch.bool:
        return torch.rand(shape, generator=generator) > 0.5
    count = math.prod(shape) * dtype.itemsize
    raw = torch.randint(0, 256, (count,), generator=generator, dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)


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


def test_distributed_data_parallel_is_no_part_of_a_name(tmp_path: Path) -> None:
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(small())
        assert [t.name for t in weight_set("model", wrapped).tensors] == list(small().state_dict())
    finally:
        distributed.destroy_process_group()


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


def dispatching() -> torch.Tensor:
    from torch.testing._internal.two_tensor import TwoTensor

    return TwoTensor(torch.zeros(2), torch.zeros(2))  # type: ignore[no-untyped-call]


def freed() -> torch.Tensor:
    tensor = torch.zeros(8)
    tensor.untyped_storage().resize_(0)
    return tensor


def nested() -> torch.Tensor:
    return torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged)


def quantized() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8)


REFUSED: list[tuple[str, Any, str]] = [
    ("complex128", lambda: torch.zeros(2, dtype=torch.complex128), "view_as_real"),
    ("complex32", lambda: torch.zeros(2, 2, dtype=torch.half).view(torch.complex32), "convert it"),
    ("lazy", lambda: nn.LazyLinear(2).weight, "forward pass"),
    ("lazy buffer", lambda: nn.LazyBatchNorm1d().running_mean, "forward pass"),
    ("meta", lambda: torch.zeros(2, device="meta"), "to_empty"),
    ("sparse", lambda: torch.eye(2).to_sparse(), "to_dense"),
    ("nested", nested, "to_padded_tensor"),
    ("freed", freed, "gather"),
    ("computed", dispatching, "plain tensors"),
]


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize(("make", "advice"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_a_tensor_that_could_not_be_loaded_again_is_refused_by_name(make: Any, advice: str) -> None:
    with pytest.raises(UnsavableStateError, match=r"^model: block\.w ") as raised:
        weight_set("model", {"block.w": make()})
    assert advice in str(raised.value)
    assert raised.value.where == "model: block.w"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantized_tensor_is_refused_by_name() -> None:
    with pytest.raises(UnsavableStateError, match=r"block\.w is quantized .* dequantize"):
        weight_set("model", {"block.w": quantized()})


def test_a_distributed_tensor_is_refused_with_how_to_gather_it(tmp_path: Path) -> None:
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        spread = distribute_tensor(torch.zeros(4), mesh, [Shard(0)])
        with pytest.raises(UnsavableStateError, match=r"spread over several .* full_tensor"):
            weight_set("model", {"w": spread})
    finally:
        distributed.destroy_process_group()


def test_a_subclass_that_only_adds_methods_is_stored_by_its_values(tmp_path: Path) -> None:
    class Box(torch.Tensor):
        def area(self) -> float:
            return 1.0

    value = torch.arange(4.0).as_subclass(Box)
    read, _ = write_weights(tmp_path, weight_set("model", {"box": value}))
    assert torch.equal(read["box"], torch.arange(4.0))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "empty"),
        ("a\nb", "control characters"),
        ("x" * 1025, "1,025 bytes"),
        ("a\udc80", "lone surrogate"),
    ],
)
def test_a_name_that_a_reader_refuses_is_refused(name: str, fault: str) -> None:
    with pytest.raises(UnsavableStateError, match=fault):
        weight_set("model", {name: torch.zeros(1)})


def test_more_tensors_than_a_reader_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TENSORS", 2)
    with pytest.raises(UnsavableStateError, match="at most 2"):
        weight_set("model", {str(i): torch.zeros(1) for i in range(3)})


@pytest.mark.parametrize("source", [None, 3, torch.zeros(2), [torch.zeros(1)]])
def test_what_is_no_source_of_weights_is_refused(source: Any) -> None:
    with pytest.raises(UnsavableStateError, match="pass the live module"):
        weight_set("model", source)


def test_keys_that_are_no_text_are_refused() -> None:
    with pytest.raises(UnsavableStateError, match="has the key 3"):
        weight_set("model", {3: torch.zeros(1)})


def test_two_names_that_are_one_without_wrappers_are_refused() -> None:
    class Doubled(nn.DataParallel):  # type: ignore[type-arg]
        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return {"module.w": torch.zeros(1), "w": torch.zeros(1)}

    with pytest.raises(UnsavableStateError, match="one name"):
        weight_set("model", Doubled(nn.Linear(1, 1)))


@pytest.mark.parametrize("count", [0, 1, 3, (1 << 15) + 1])
@pytest.mark.parametrize(
    "dtype", [d for d in DTYPES if d.is_floating_point and DTYPES[d] != "F4"], ids=str
)
def test_statistics_are_those_of_the_whole_tensor_in_doubles(
    dtype: torch.dtype, count: int
) -> None:
    tensor = (torch.rand(count, generator=torch.Generator().manual_seed(1)) + 0.5).to(dtype)
    found = statistics(tensor)
    doubles = tensor.to(torch.float64)
    assert found["l2"] == pytest.approx(float(doubles.norm()), rel=1e-12)
    assert found["absmax"] == (float(doubles.abs().max()) if count else 0.0)
    assert "nan" not in found


def test_statistics_count_what_is_not_finite_only_where_there_is_any() -> None:
    found = statistics(torch.tensor([1.0, math.nan, math.inf, -math.inf]))
    assert math.isnan(found["l2"])
    assert math.isnan(found["absmax"])
    assert (found["nan"], found["inf"]) == (1, 2)
    only_inf = statistics(torch.tensor([1.0, -math.inf]))
    assert only_inf == {"l2": math.inf, "absmax": math.inf, "nan": 0, "inf": 1}


def test_statistics_of_any_bit_pattern_of_a_double_do_not_raise() -> None:
    found = statistics(bits(torch.float64, 64).nan_to_num(posinf=1.0, neginf=1.0))
    assert found["absmax"] > 1e154


def test_statistics_of_values_whose_squares_overflow_are_finite() -> None:
    found = statistics(torch.tensor([3e200, -4e200], dtype=torch.float64))
    assert found["l2"] == pytest.approx(5e200)
    assert found["absmax"] == 4e200
    assert statistics(torch.full((4,), 1.7e308, dtype=torch.float64)) == {
        "l2": math.inf,
        "absmax": 1.7e308,
        "nan": 0,
        "inf": 0,
    }


@pytest.mark.no_cover
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted by Linux")
def test_statistics_start_no_threads_and_leave_the_users_setting_alone() -> None:
    program = """
import os, threading, torch
from smartcash_format.torch_io.statistics import statistics
torch.set_num_threads(3)
tensor = torch.full((1 << 20,), float("nan"))
seen = []
def work():
    before = len(os.listdir("/proc/self/task"))
    statistics(tensor)
    statistics(torch.empty(1 << 20, dtype=torch.bfloat16))
    seen.append(len(os.listdir("/proc/self/task")) - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(seen, torch.get_num_threads())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ran.stdout == b"[0] 3\n"


def test_only_floating_tensors_are_measured(tmp_path: Path) -> None:
    state = {"f": torch.full((2, 2), -2.0).t()[:, :1], "i": torch.ones(2, dtype=torch.int64)}
    _, written = write_weights(tmp_path, weight_set("model", state))
    assert written.tensors["f"].statistics == {"l2": pytest.approx(8**0.5), "absmax": 2.0}
    assert written.tensors["i"].statistics == {}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [3, 5_000, 60_000])
def test_norms_of_values_without_squares_are_exact(dtype: torch.dtype, count: int) -> None:
    smallest = torch.finfo(dtype).smallest_normal
    tensor = torch.full((count,), smallest * 2, dtype=dtype)
    (found,) = measure(dtype, bytes_of(tensor), [tensor.nbytes])
    assert found["absmax"] == smallest * 2
    assert found["l2"] == pytest.approx(smallest * 2 * count**0.5, rel=1e-12)
    denormal = torch.full((count,), 5e-324, dtype=torch.float64)
    (found,) = measure(torch.float64, bytes_of(denormal), [denormal.nbytes])
    assert found["l2"] >= found["absmax"] == 5e-324
