from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from smartcash_format.disk.parts import TensorSource, WeightsPart
from smartcash_format.errors import UnsavableStateError
from smartcash_format.torch_io import collect as collect_module
from smartcash_format.torch_io import snapshot
from smartcash_format.torch_io.collect import Collected, collect
from smartcash_format.torch_io.dtypes import bytes_of
from smartcash_format.torch_io.snapshot import Buffers, Copier
from smartcash_format.torch_io.weights import weight_set

pytestmark = pytest.mark.torch

ODD = {
    "contiguous": torch.arange(300_000.0),
    "turned": torch.arange(600_000.0).reshape(600, 1_000).T,
    "every other": torch.arange(400_000)[::2],
    "expanded": torch.ones(1).expand(70_000),
    "conjugated": torch.arange(50_000).to(torch.complex64).conj(),
    "halves": torch.arange(9, dtype=torch.bfloat16),
    "empty": torch.empty(0, 3),
    "scalar": torch.tensor(1.5),
}
ODD["tied"] = ODD["contiguous"]


def copied(buffers: Buffers, **live: Any) -> Collected:
    with Copier(buffers) as copier:
        return copier.finish(collect(rng=False, take=copier.take, **live))


def content(collected: Collected) -> dict[str, list[bytes]]:
    return {
        plan.name: [bytes(p.source.read()) for p in plan.pieces if p.size_bytes]
        for plan in collected.parts
    }


def test_a_copy_has_the_bytes_of_the_live_tensors_and_of_none_later() -> None:
    model = {name: tensor.clone() for name, tensor in ODD.items()}
    model["tied"] = model["contiguous"]
    extra = {"state": {**ODD, "nested": [ODD["turned"], {"a": ODD["halves"]}]}}
    expected = content(collect(model=model, extra=extra, rng=False))
    found = copied(Buffers(), model=model, extra=extra)
    for tensor in model.values():
        tensor.zero_()
    assert content(found) == expected


def test_memory_serves_states_that_grow_shrink_and_change_their_files() -> None:
    buffers = Buffers()
    for floats in (100_000, 400_000, 7, 300_000):
        model = {"a": torch.rand(floats), "b": torch.rand(3)}
        found = copied(buffers, model=model, extra={"x": {"y": torch.rand(floats)}})
        assert content(found) == content(
            collect(model=model, extra={"x": {"y": torch.empty(0)}}, rng=False)
        ) | {"extra.pt": content(found)["extra.pt"]}
    assert sorted(buffers._memory) == ["extra.pt", "model.safetensors"]
    copied(buffers, model=model)
    assert sorted(buffers._memory) == ["model.safetensors"]


def test_a_refusal_waits_for_what_is_being_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    real = snapshot._move

    def move(stretches: Any) -> None:
        begun.set()
        go_on.wait()
        real(stretches)

    def refused(*_: Any) -> None:
        begun.wait()  # the optimizer's state is being copied by now
        threading.Timer(0.2, go_on.set).start()
        raise UnsavableStateError("no", where="model", kind="x")

    monkeypatch.setattr(snapshot, "_move", move)
    monkeypatch.setattr(collect_module, "weight_set", refused)
    optimizer = {"state": {0: {"m": torch.rand(500_000)}}, "param_groups": [{"params": [0]}]}
    with pytest.raises(UnsavableStateError, match="no"):
        copied(Buffers(), model=torch.nn.Linear(1, 1), optimizer=optimizer)
    assert go_on.is_set()
    assert not [t for t in threading.enumerate() if t.name.startswith("copy")]


def test_a_copy_holds_no_live_tensor(tmp_path: Path) -> None:
    import weakref

    model = torch.nn.Linear(400, 400)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    model(torch.ones(400)).sum().backward()
    optimizer.step()
    gone = [weakref.ref(p) for p in model.parameters()]
    found = copied(Buffers(), model=model, optimizer=optimizer, extra={"n": torch.nn.Linear(2, 2)})
    moments = [weakref.ref(s["momentum_buffer"]) for s in optimizer.state.values()]
    del model, optimizer
    assert [ref() for ref in (*gone, *moments)] == [None] * 4
    assert content(found)["model.safetensors"]


def test_nothing_of_a_users_code_runs_while_a_copy_is_made() -> None:
    model = torch.nn.Linear(600, 600)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    model(torch.ones(600)).sum().backward()
    optimizer.step()

    class Restless:
        """One whose state_dict() writes to what others have given, and frees it."""

        def state_dict(self) -> dict[str, Any]:
            for state in optimizer.state.values():
                state["momentum_buffer"].fill_(7.0)
            with torch.no_grad():
                model.weight.fill_(7.0)
            return {"a": torch.ones(1)}

    found = content(copied(Buffers(), model=model, optimizer=optimizer, extra={"r": Restless()}))
    buffers = [data for data in found["optimizer.pt"] if len(data) == 600 * 600 * 4]
    assert buffers == [torch.full((600, 600), 7.0).numpy().tobytes()]
    assert buffers[0] in found["model.safetensors"]


def test_a_parameter_whose_data_is_replaced_was_copied_whole() -> None:
    weight = torch.nn.Parameter(torch.full((1_000, 1_000), 1.0))
    source = weight_set("model", {"w": weight}).tensors[0]
    view = source.read()
    weight.data = torch.zeros(1_000, 1_000)
    # Memory that was freed is given to the next who asks.
    other = [torch.full((1_000, 1_000), 2.0) for _ in range(4)]
    assert bytes(view) == torch.ones(1_000, 1_000).numpy().tobytes()
    assert bytes(source.read()) == bytes(view)
    assert len(other) == 4


def test_bytes_of_a_tensor_outlive_its_data() -> None:
    tensor = torch.full((1_000, 1_000), 1.0)
    view = bytes_of(tensor)
    tensor.data = torch.zeros(1)
    other = [torch.full((1_000, 1_000), 2.0) for _ in range(4)]
    assert bytes(view) == torch.ones(1_000, 1_000).numpy().tobytes()
    assert len(other) == 4


def test_a_source_that_changes_its_size_is_refused_by_a_copy_too() -> None:
    def shrunk() -> bytes:
        return bytes(7)

    source = TensorSource("w", "U8", (9,), 9, shrunk)
    with (
        Copier(Buffers()) as copier,
        pytest.raises(UnsavableStateError, match="w has 7 bytes instead of 9"),
    ):
        copier.take(WeightsPart(name="model.safetensors", tensors=[source]))
