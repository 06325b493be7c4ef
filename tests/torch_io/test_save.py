"""A save: what lies on the disk then, what is refused before a byte is written, what is proved."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from smartcash_format import load_tensors
from smartcash_format.disk.observe import validate
from smartcash_format.disk.write import write_parts
from smartcash_format.errors import (
    CheckpointExistsError,
    InsufficientSpaceError,
    UnsavableStateError,
)
from smartcash_format.spec import layout, limits
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.tensors import parse_tensors
from smartcash_format.torch_io import proof
from smartcash_format.torch_io import save as saving_module
from smartcash_format.torch_io.asked import live_objects
from smartcash_format.torch_io.collect import collect
from smartcash_format.torch_io.dtypes import DTYPES
from smartcash_format.torch_io.load import load_checkpoint
from smartcash_format.torch_io.save import is_writer, prepare, publish, save, size_bound
from smartcash_format.torch_io.snapshot import Buffers
from smartcash_format.torch_io.state import encode
from tests.torch_io.same import assert_same
from tests.torch_io.saving import facts, saved, state, weights
from tests.torch_io.sources import bits, small
from tests.torch_io.written import same_bits
from tests.torch_io.zoo import OPTIMIZERS, SCHEDULERS, fresh, scheduler, step_scheduler, stepped

pytestmark = pytest.mark.torch


def is_whole(path: Path) -> bool:
    report = validate(path, Depth.CONTENT)
    assert report.problems == ()
    assert report.notices == ()
    return report.valid


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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_saved_whole(name: str, tmp_path: Path) -> None:
    training = stepped(name)
    found = saved(tmp_path, training.model, optimizer=training.optimizer, rng=False)
    assert is_whole(found.path)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_is_saved_whole(name: str, tmp_path: Path) -> None:
    training = fresh("SGD")
    live = scheduler(name, training.optimizer)
    step_scheduler(live)
    found = saved(tmp_path, training.model, optimizer=training.optimizer, scheduler=live, rng=False)
    assert is_whole(found.path)
    assert found.warnings == ()


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


class Plain:
    """Any object with a state."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state


class Module(nn.Module):
    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("bad", tensor)


def refused() -> list[tuple[str, dict[str, Any], str]]:
    good = {"w": torch.zeros(1)}
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter])
    return [
        ("no model", {"model": None}, "model is None"),
        ("model of a wrong type", {"model": 3}, "pass the live module"),
        ("sparse", {"model": {"a.b": torch.eye(2).to_sparse()}}, r"model: a\.b is sparse"),
        (
            "complex128",
            {"model": Module(torch.zeros(1, dtype=torch.complex128))},
            r"model: bad is complex128",
        ),
        ("name", {"model": {"a\nb": torch.zeros(1)}}, "control characters"),
        ("module state", {"model": {**good, "x": object()}}, r"model: x is a .*object"),
        ("optimizer", {"model": good, "optimizer": 3}, "without a state_dict"),
        ("optimizer class", {"model": good, "optimizer": torch.optim.SGD}, "state_dict"),
        (
            "optimizer state",
            {"model": good, "optimizer": Plain({"state": {}, "param_groups": [{"f": print}]})},
            r"optimizer\['param_groups'\]\[0\]\['f'\] is a ",
        ),
        ("optimizer without a dict", {"model": good, "optimizer": Plain([1])}, "optimizer"),
        ("scheduler", {"model": good, "scheduler": object()}, "without a state_dict"),
        ("scheduler without a dict", {"model": good, "scheduler": Plain(None)}, "scheduler"),
        (
            "scheduler state",
            {"model": good, "optimizer": optimizer, "scheduler": {"after": lambda: 0}},
            r"scheduler\['after'\] is a .*code is never stored",
        ),
        ("extra", {"model": good, "extra": {"a": object()}}, r"extra\['a'\].*state_dict"),
        ("extra state", {"model": good, "extra": {"a": {"b": object()}}}, r"extra\['a'\]\['b'\]"),
        (
            "extra module",
            {"model": good, "extra": {"ema": Module(torch.zeros(1, device="meta"))}},
            r"ema: bad is on the meta device",
        ),
        ("extra name", {"model": good, "extra": {"Ema": nn.Linear(1, 1)}}, "lower-case"),
        ("extra taken", {"model": good, "extra": {"model": nn.Linear(1, 1)}}, "place of its own"),
        ("extra key", {"model": good, "extra": {3: {}}}, "extra"),
        ("deep", {"model": good, "extra": {"a": deep(70)}}, "nests deeper"),
        ("deep sets", {"model": good, "extra": {"a": {"b": deep_sets(40)}}}, "nests deeper"),
        ("integer", {"model": good, "extra": {"a": {"b": 1 << 2_000}}}, "1,024 bits"),
        ("many", {"model": good, "extra": {"a": shared(40)}}, "values are reached"),
    ]


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def deep_sets(levels: int) -> Any:
    value: Any = frozenset()
    for _ in range(levels):
        value = frozenset({value})
    return value


def shared(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        value = {"a": value, "b": value}
    return value


REFUSED = refused()


@pytest.mark.parametrize(("live", "words"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_could_not_be_loaded_again_is_refused_and_nothing_is_written(
    live: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving_module, "stage", None)
    root = tmp_path / "root"
    with pytest.raises(UnsavableStateError, match=words):
        save(root / "one", facts(), **live)
    assert not root.exists()


def wide(optimizer: torch.optim.Optimizer) -> None:
    next(iter(optimizer.state.values()))["exp_avg"] = torch.zeros(3)


def steep(optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0]["lr"] = float("nan")


def short(optimizer: torch.optim.Optimizer) -> None:
    del next(iter(optimizer.state.values()))["exp_avg_sq"]


def joined(optimizer: torch.optim.Optimizer) -> None:
    state = next(iter(optimizer.state.values()))
    state["exp_avg_sq"] = state["exp_avg"]


def counted_together(optimizer: torch.optim.Optimizer) -> None:
    first, second, *_ = optimizer.state.values()
    second["step"] = first["step"]


def overlapping(optimizer: torch.optim.Optimizer) -> None:
    state = next(iter(optimizer.state.values()))
    moment = state["exp_avg"]
    flat = torch.ones(2 * moment.numel() - 1)
    state["exp_avg"] = flat[: moment.numel()].view_as(moment)
    state["exp_avg_sq"] = flat[moment.numel() - 1 :].view_as(moment)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (joined, r"\['a'\]\['exp_avg_sq'\] lies in the same memory as \['a'\]\['exp_avg'\]"),
        (counted_together, r"\['step'\] lies in the same memory as "),
        (overlapping, r"\['a'\]\['exp_avg_sq'\] lies in the same memory"),
    ],
)
def test_moments_in_one_memory_are_refused_at_save(
    change: Callable[[torch.optim.Optimizer], None], words: str, tmp_path: Path
) -> None:
    training = stepped("AdamW")
    change(training.optimizer)
    with pytest.raises(UnsavableStateError, match=words):
        saved(tmp_path, training.model, optimizer=training.optimizer)
    with pytest.raises(UnsavableStateError, match=words):
        saved(tmp_path, training.model, extra={"second": training.optimizer})
    assert os.listdir(tmp_path) == []


def test_moments_beside_each_other_in_one_memory_are_saved(tmp_path: Path) -> None:
    training = stepped("AdamW")
    for own in training.optimizer.state.values():
        flat = torch.cat([own["exp_avg"].reshape(-1), own["exp_avg_sq"].reshape(-1)])
        first, second = flat.chunk(2)
        own["exp_avg"] = first.view_as(own["exp_avg"])
        own["exp_avg_sq"] = second.view_as(own["exp_avg_sq"])
    before = training.optimizer.state_dict()
    path = saved(tmp_path, training.model, optimizer=training.optimizer).path
    live = stepped("AdamW", steps=1)
    load_checkpoint(path, model=live.model, optimizer=live.optimizer)
    assert_same(live.optimizer.state_dict(), before)


@pytest.mark.parametrize(
    ("change", "words"),
    [(wide, r"state\[.a.\]\[.exp_avg.\]"), (steep, r"\['lr'\] is nan"), (short, "exp_avg_sq")],
)
def test_an_optimizer_that_no_load_would_take_is_refused_at_save(
    change: Callable[[torch.optim.Optimizer], None], words: str, tmp_path: Path
) -> None:
    training = stepped("AdamW")
    change(training.optimizer)
    with pytest.raises(UnsavableStateError, match=rf"^optimizer.*{words}"):
        saved(tmp_path, training.model, optimizer=training.optimizer)
    with pytest.raises(UnsavableStateError, match=r"^extra\['second'\]"):
        saved(tmp_path, training.model, extra={"second": training.optimizer})
    assert os.listdir(tmp_path) == []


class Own(torch.optim.Optimizer):
    """An optimizer of the user's, which keeps what it likes."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 1e9, "own": (None, "a", {"b": 1})})

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["history"] = deque([torch.zeros(5), None], maxlen=2)


def test_an_optimizer_of_the_users_own_is_saved_with_what_it_keeps(tmp_path: Path) -> None:
    model = small()
    optimizer = Own(model.parameters())
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.5
    found = saved(tmp_path, model, optimizer=optimizer)
    assert is_whole(found.path)
    history = state(found.path, layout.OPTIMIZER)["state"][0]["history"]
    assert type(history) is deque
    assert history.maxlen == 2


def test_names_in_extra_are_free_where_no_file_has_them(tmp_path: Path) -> None:
    found = saved(tmp_path, {}, extra={"My Loader/1": {"a": 1}})
    assert is_whole(found.path)
    assert found.meta.extra == ["My Loader/1"]
    for name in ("", "x" * 257, "a\udc80", "a\nb"):
        with pytest.raises(UnsavableStateError, match="extra"):
            saved(tmp_path, {}, extra={name: {}}, name="two")
    with pytest.raises(UnsavableStateError, match="at most 100"):
        saved(tmp_path, {}, extra={f"a{i}": {} for i in range(101)}, name="two")


def test_a_path_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(CheckpointExistsError):
        saved(tmp_path, small())
    assert os.listdir(tmp_path) == ["one"]


def test_a_full_disk_is_known_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartcash_format.disk.publish.free_bytes", lambda path: 1_000)
    with pytest.raises(InsufficientSpaceError) as caught:
        saved(tmp_path, small())
    assert caught.value.free_bytes == 1_000
    assert os.listdir(tmp_path) == []


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


def test_a_manifest_that_a_reader_refuses_is_refused_before_a_byte_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TENSORS_BYTES", 1_000)
    with pytest.raises(UnsavableStateError, match=r"tensors\.json"):
        saved(tmp_path, small())
    assert os.listdir(tmp_path) == []


@pytest.mark.no_cover
def test_metadata_beyond_its_bound_is_cut_with_a_warning_and_never_costs_the_save(
    tmp_path: Path,
) -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": i} for i in range(1_500)]
    optimizer = torch.optim.AdamW(groups)
    config = {"rows": [[i] for i in range(60_000)]}
    large = facts(config=config, notes={"log": "x" * 200_000}, metrics={"é" * 250: 1.0})
    found = save(tmp_path / "one", large, model={}, optimizer=optimizer)
    assert is_whole(found.path)
    assert (found.path / layout.META).stat().st_size <= limits.META_BYTES
    assert found.meta.config == {"$keys": ["rows"]}
    assert any("config" in warning for warning in found.warnings)
    assert found.meta.optimizer is not None
    assert len(found.meta.optimizer.groups) == 1_500


def test_what_torch_would_not_load_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("Weights only load failed")

    monkeypatch.setattr(proof, "torch_load", refuse)
    monkeypatch.setattr(proof, "_proved", {})
    with pytest.raises(UnsavableStateError, match="Weights only load failed"):
        saved(tmp_path, small())
    assert os.listdir(tmp_path) == []


def test_a_mount_that_cannot_map_files_is_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[bool] = []

    def unmappable(*args: Any, mmap: bool = False, **kwargs: Any) -> Any:
        tried.append(mmap)
        if mmap:
            raise RuntimeError("unable to mmap 64 bytes: No such device (19)")
        return torch.serialization.load(*args, **kwargs)

    monkeypatch.setattr(proof, "torch_load", unmappable)
    monkeypatch.setattr(proof, "_proved", {})
    assert is_whole(saved(tmp_path, small()).path)
    assert tried == [True, False]


def test_torch_is_asked_once_for_states_that_differ_in_numbers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def load(path: Path, **kwargs: Any) -> Any:
        asked.append(path.name)
        return torch.serialization.load(path, **kwargs)

    monkeypatch.setattr(proof, "torch_load", load)
    monkeypatch.setattr(proof, "_proved", {})
    training = stepped("AdamW")

    def save_it(name: str) -> list[str]:
        asked.clear()
        saved(tmp_path, training.model, optimizer=training.optimizer, rng=False, name=name)
        return asked

    assert save_it("one") == [layout.OPTIMIZER]
    training.optimizer.param_groups[0]["lr"] = 0.5
    assert save_it("two") == []
    training.optimizer.param_groups[0]["maximize"] = True
    assert save_it("three") == [layout.OPTIMIZER]


@pytest.mark.no_cover
def test_neither_the_environment_nor_a_replaced_torch_load_changes_the_proof(
    tmp_path: Path,
) -> None:
    program = f"""
        from pathlib import Path
        import torch

        def unsafe(*args, **kwargs):
            raise AssertionError("the program's own torch.load was used")

        torch.load = unsafe
        torch.save = unsafe
        from tests.torch_io.saving import saved
        model = torch.nn.Linear(1, 1)
        saved(Path({str(tmp_path)!r}), model, optimizer=torch.optim.Adam(model.parameters()))
        print("saved")
        """
    environment = {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert (ran.stdout, ran.returncode) == ("saved\n", 0), ran.stderr


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


def test_a_lazy_module_is_refused_beside_its_optimizer_too(tmp_path: Path) -> None:
    lazy = nn.LazyLinear(2)
    optimizer = torch.optim.SGD(lazy.parameters(), momentum=0.9)
    with pytest.raises(UnsavableStateError, match=r"model: weight has no shape yet"):
        save(tmp_path / "one", facts(), model=lazy, optimizer=optimizer)


def test_extra_that_is_no_dict_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"extra is 'ema'; it is a dict from names to live objects"):
        save(tmp_path / "one", facts(), model=small(), extra="ema")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="extra is"):
        live_objects(small(), extra=["ema"])  # type: ignore[arg-type]


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
