"""Tensors and names that no reader would take are refused at a save, with what to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec import limits
from smartcash_format.torch_io.weights import weight_set

pytestmark = pytest.mark.torch


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


@pytest.mark.usefixtures("process_group")
def test_a_distributed_tensor_is_refused_with_how_to_gather_it() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))
    spread = distribute_tensor(torch.zeros(4), mesh, [Shard(0)])
    with pytest.raises(UnsavableStateError, match=r"spread over several .* full_tensor"):
        weight_set("model", {"w": spread})


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
