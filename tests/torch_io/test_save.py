"""A save: what lies on the disk then, and that the live objects are as they were."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from smartcash_format import load_tensors
from smartcash_format.disk.observe import validate
from smartcash_format.disk.write import write_parts
from smartcash_format.spec import layout, limits
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.tensors import parse_tensors
from smartcash_format.torch_io import save as saving_module
from smartcash_format.torch_io.collect import collect
from smartcash_format.torch_io.dtypes import DTYPES
from smartcash_format.torch_io.save import is_writer, prepare, publish, save, size_bound
from smartcash_format.torch_io.snapshot import Buffers
from smartcash_format.torch_io.state import encode
from tests.torch_io.saving import facts, is_whole, saved, state, weights
from tests.torch_io.sources import bits, small
from tests.torch_io.written import same_bits
from tests.torch_io.zoo import scheduler, stepped

pytestmark = pytest.mark.torch


def test_a_save_of_everything_is_whole_and_says_what_it_holds(tmp_path: Path) -> None:
    training = stepped("AdamW")
    schedule = scheduler("CosineAnnealingLR", training.optimizer)
    averaged = torch.optim.swa_utils.AveragedModel(training.model)
    second = torch.optim.SGD(averaged.parameters(), lr=0.1)
    extra = {
        "scaler": torch.amp.GradScaler("cpu"),
        "ema": averaged,
        "second": second,
        "loader": {"position": 3, "order": np.arange(3)},
    }
    found = saved(
        tmp_path, training.model, optimizer=training.optimizer, scheduler=schedule, extra=extra
    )
    assert is_whole(found.path)
    assert sorted(os.listdir(tmp_path)) == ["one"]
    assert sorted(os.listdir(found.path)) == [
        "ema.safetensors", "extra.pt", "meta.json", "model.safetensors", "optimizer.pt",
        "scheduler.pt", "tensors.json",
    ]  # fmt: skip
    assert found.size_bytes == sum(each.stat().st_size for each in found.path.iterdir())
    meta = found.meta
    assert meta.extra == ["loader", "scaler", "second"]
    assert meta.rng
    assert meta.optimizer is not None
    assert meta.scheduler is not None
    assert (meta.optimizer.class_name, meta.scheduler.class_name) == ("AdamW", "CosineAnnealingLR")
    assert list(meta.weights) == ["model", "ema"]
    assert meta.weights["model"].parameters == sum(p.numel() for p in training.model.parameters())
    assert meta.weights["model"].finite
    manifest, _ = parse_tensors((found.path / layout.TENSORS).read_bytes())
    assert manifest is not None
    assert manifest.optimizer_groups == {
        "optimizer": [["a", "b", "c", "d", "bias"]],
        "second": [[f"ema:module.{name}" for name in ("a", "b", "c", "d", "bias")]],
    }
    read = weights(found.path)
    assert all(same_bits(read[n], t) for n, t in training.model.state_dict().items())
    assert set(weights(found.path, "ema")) == set(averaged.state_dict())
    objects = state(found.path, layout.EXTRA)["objects"]
    assert objects["loader"]["order"].tolist() == [0, 1, 2]
    assert type(objects["loader"]["order"]) is np.ndarray
    assert set(state(found.path, layout.EXTRA)["rng"]) == {"python", "numpy", "torch"}


def test_a_save_of_a_model_alone_has_weights_and_random_state_only(tmp_path: Path) -> None:
    found = saved(tmp_path, small())
    assert sorted(found.meta.files) == ["extra.pt", "model.safetensors", "tensors.json"]
    bare = saved(tmp_path, small(), name="two", rng=False)
    assert sorted(bare.meta.files) == ["model.safetensors", "tensors.json"]
    assert is_whole(found.path)
    assert is_whole(bare.path)


def test_every_dtype_is_saved_whole_and_listed(tmp_path: Path) -> None:
    model = {text.lower(): bits(dtype, 3, 4) for dtype, text in DTYPES.items()}
    found = saved(tmp_path, model, rng=False)
    assert is_whole(found.path)
    assert found.meta.weights["model"].dtypes == dict.fromkeys(DTYPES.values(), 1)
    read = weights(found.path)
    assert all(same_bits(read[name], tensor) for name, tensor in model.items())


def test_state_dicts_are_saved_like_the_live_objects_they_come_from(tmp_path: Path) -> None:
    training = stepped("AdamW")
    schedule = scheduler("StepLR", training.optimizer)
    live = saved(
        tmp_path, training.model, optimizer=training.optimizer, scheduler=schedule, rng=False
    )
    plain = saved(
        tmp_path, training.model.state_dict(), optimizer=training.optimizer.state_dict(),
        scheduler=schedule.state_dict(), rng=False, name="two",
    )  # fmt: skip
    assert is_whole(plain.path)
    assert plain.meta.weights["model"].weights_digest == live.meta.weights["model"].weights_digest
    assert plain.meta.weights["model"].class_name is None
    assert plain.meta.files[layout.OPTIMIZER].digest == live.meta.files[layout.OPTIMIZER].digest
    assert plain.meta.files[layout.SCHEDULER].digest == live.meta.files[layout.SCHEDULER].digest


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    training = stepped("Adam")
    one = saved(tmp_path, training.model, optimizer=training.optimizer, rng=False)
    two = saved(tmp_path, training.model, optimizer=training.optimizer, rng=False, name="two")
    assert one.meta.files == two.meta.files


def test_a_diverged_model_is_saved_and_said_to_be(tmp_path: Path) -> None:
    model = small()
    with torch.no_grad():
        model.get_parameter("head.bias").fill_(float("nan"))
        model.get_parameter("conv.bias").fill_(float("-inf"))
    found = saved(tmp_path, model)
    assert is_whole(found.path)
    assert not found.meta.weights["model"].finite
    manifest, _ = parse_tensors((found.path / layout.TENSORS).read_bytes())
    assert manifest is not None
    records = manifest.weights["model"].tensors
    assert records["head.bias"].nan == 2
    assert records["conv.bias"].inf == 4
    assert records["head.weight"].nan is None


def test_a_model_without_tensors_is_saved_whole(tmp_path: Path) -> None:
    assert is_whole(saved(tmp_path, nn.Identity()).path)
    assert is_whole(saved(tmp_path, {}, name="two").path)


class Seen(nn.Module):
    """A module with state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def get_extra_state(self) -> Any:
        return {"seen": {1, 2}, "last": torch.ones(2)}

    def set_extra_state(self, state: Any) -> None:
        """Nothing is kept."""


def test_extra_state_of_modules_lies_in_extra_by_weight_set(tmp_path: Path) -> None:
    found = saved(tmp_path, nn.Sequential(Seen()), extra={"teacher": Seen()}, rng=False)
    assert is_whole(found.path)
    assert found.meta.extra == []
    modules = state(found.path, layout.EXTRA)["modules"]
    assert list(modules) == ["model", "teacher"]
    assert modules["model"]["0._extra_state"]["seen"] == {1, 2}
    assert torch.equal(modules["teacher"]["_extra_state"]["last"], torch.ones(2))


def test_tied_weights_are_listed_under_every_name(tmp_path: Path) -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
    model["head"].weight = model["embed"].weight
    found = saved(tmp_path, model, optimizer=torch.optim.SGD(model.parameters()))
    assert is_whole(found.path)
    assert set(weights(found.path)) == {"embed.weight"}
    assert found.meta.weights["model"].tensors == 2
    plain = saved(
        tmp_path, {name: tensor.clone() for name, tensor in model.state_dict().items()}, name="two"
    )
    digests = {each.meta.weights["model"].weights_digest for each in (found, plain)}
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["AdamW", "LBFGS"])
def test_the_space_that_is_asked_for_is_enough_and_little_more(name: str, tmp_path: Path) -> None:
    training = stepped(name)
    asked = size_bound(
        collect(model=training.model, optimizer=training.optimizer, extra={"a": {"b": b"x"}}),
        facts(config={"a": list(range(100))}, metrics={"loss": 0.1}),
    )
    found = save(
        tmp_path / "one",
        facts(config={"a": list(range(100))}, metrics={"loss": 0.1}),
        model=training.model,
        optimizer=training.optimizer,
        extra={"a": {"b": b"x"}},
    )
    assert found.size_bytes <= asked <= found.size_bytes + 3_000


@pytest.mark.no_cover
def test_metadata_beyond_its_bound_is_cut_with_a_warning_and_never_costs_the_save(
    tmp_path: Path,
) -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": i} for i in range(1_500)]
    optimizer = torch.optim.AdamW(groups)
    config = {"rows": [[i] for i in range(60_000)]}
    large = facts(config=config, notes={"log": "x" * 400_000}, metrics={"é" * 250: 1.0})
    found = save(tmp_path / "one", large, model={}, optimizer=optimizer)
    assert is_whole(found.path)
    assert (found.path / layout.META).stat().st_size <= limits.META_BYTES
    assert found.meta.config == {"$keys": ["rows"]}
    assert any("config" in warning for warning in found.warnings)
    assert found.meta.optimizer is not None
    assert len(found.meta.optimizer.groups) == 1_500


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_default_device_of_the_program_changes_nothing(device: str, tmp_path: Path) -> None:
    model = small()
    extra = {"a": {"bytes": b"abc", "none": b"", "array": np.arange(3), "f": 1 + 2j}}
    one = saved(tmp_path, model, extra=extra, rng=False)
    with torch.device(device):
        two = saved(tmp_path, model, extra=extra, rng=False, name="two")
    assert one.meta.files == two.meta.files


def test_a_save_leaves_the_live_objects_as_they_were(tmp_path: Path) -> None:
    training = stepped("AdamW")
    model = training.model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    saved(tmp_path, model, optimizer=training.optimizer)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.training


def test_the_checkpoint_says_nothing_of_this_machine(tmp_path: Path) -> None:
    found = saved(tmp_path, small())
    text = (found.path / layout.META).read_text()
    assert str(tmp_path) not in text
    assert os.uname().nodename not in text or os.uname().nodename in ("linux", "x86_64")
    assert found.meta.environment.torch == str(torch.__version__)


def test_progress_ends_with_all_bytes_done(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    save(
        tmp_path / "one",
        facts(),
        model=small(),
        progress=lambda done, all_: seen.append((done, all_)),
    )
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_only_rank_0_of_a_group_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_writer()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for rank, writes in ((0, True), (1, False)):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        assert is_writer() is writes


@pytest.mark.parametrize("kind", ["numpy", "torch", "python"])
def test_a_generator_of_the_users_is_state_like_any_other(kind: str, tmp_path: Path) -> None:
    import random

    live: Any = {
        "numpy": np.random.default_rng(3), "torch": torch.Generator().manual_seed(3),
        "python": random.Random(3),
    }[kind]  # fmt: skip
    found = saved(tmp_path, {}, extra={"augmentation": live})
    assert is_whole(found.path)
    assert found.meta.extra == ["augmentation"]


def test_wrapped_and_bare_models_are_one_checkpoint(tmp_path: Path) -> None:
    model = small()
    optimizer = torch.optim.Adam(model.parameters())
    bare = saved(tmp_path, model, optimizer=optimizer, rng=False)
    wrapped = saved(tmp_path, nn.DataParallel(model), optimizer=optimizer, rng=False, name="two")
    assert bare.meta.files == wrapped.meta.files
    assert bare.meta.weights == wrapped.meta.weights


def test_an_ordered_dict_of_tensors_is_a_model(tmp_path: Path) -> None:
    found = saved(tmp_path, OrderedDict(w=torch.zeros(1)))
    assert found.meta.weights["model"].parameters == 1


def test_the_default_device_of_a_program_is_not_where_a_save_works(tmp_path: Path) -> None:
    model = small()
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    extra = {"x": {"data": b"1", "none": b"", "odd": torch.tensor([1, 2], dtype=torch.uint16)}}
    state = {"tiny": torch.ones(7), "empty": torch.empty(0, 3), **model.state_dict()}
    torch.set_default_device("meta")
    try:
        buffers = Buffers()
        for number, memory in enumerate([None, buffers]):
            final = tmp_path / f"epoch-000{number}"
            at = publish(
                prepare(
                    final, facts(), model=state, optimizer=optimizer, extra=extra, buffers=memory
                )
            ).path
            assert validate(at, Depth.CONTENT).valid
            read = load_tensors(at)
            assert all(same_bits(read[name], tensor) for name, tensor in state.items())
    finally:
        torch.set_default_device(None)


def test_a_tensor_of_one_element_with_any_stride_is_stored() -> None:
    odd = torch.tensor([513], dtype=torch.uint16).as_strided((1, 1), (7, 9))
    assert odd.stride() == (7, 9)
    form = encode({"x": odd}, "extra")["x"]
    assert bytes(form["data"].tolist()) == b"\x01\x02"


@pytest.mark.parametrize("how", ["data", "set_"])
def test_a_tensor_that_is_given_other_memory_while_it_is_written_is_stored_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    model = {"w": torch.arange(100_000.0)}
    extra = {"state": {"s": torch.arange(100_000.0)}}
    live = [model["w"], extra["state"]["s"]]

    def another_thread_first(*given: Any, **more: Any) -> Any:
        for tensor in live:
            if how == "data":
                tensor.data = torch.zeros(3)
            else:
                tensor.set_(torch.zeros(3).untyped_storage(), 0, (3,), (1,))
        # Whoever is given memory now is given theirs, if it was freed.
        _ = [torch.full((100_000,), -1.0) for _ in range(8)]
        return write_parts(*given, **more)

    monkeypatch.setattr(saving_module, "write_parts", another_thread_first)
    path = saved(tmp_path, model, extra=extra).path
    assert weights(path)["w"].equal(torch.arange(100_000.0))
    assert state(path, "extra.pt")["objects"]["state"]["s"].equal(torch.arange(100_000.0))
