"""What a save refuses, and that nothing is written then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.errors import (
    CheckpointExistsError,
    InsufficientSpaceError,
    UnsavableStateError,
)
from smartcash_format.spec import limits
from smartcash_format.torch_io import save as saving_module
from smartcash_format.torch_io.asked import live_objects
from smartcash_format.torch_io.save import save
from tests.torch_io.saving import facts, is_whole, saved
from tests.torch_io.sources import small

pytestmark = pytest.mark.torch


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
        (
            "reserved name",
            {"model": {"__metadata__": torch.zeros(1)}},
            "safetensors keeps for itself",
        ),
        ("module state", {"model": {**good, "x": object()}}, r"model: x is a .*object"),
        ("optimizer", {"model": good, "optimizer": 3}, "without a state_dict"),
        ("optimizer", {"model": good, "optimizer": [3, 4]}, "a name of its own in extra="),
        (
            "optimizer class",
            {"model": good, "optimizer": torch.optim.SGD},
            "a class.*an object of it",
        ),
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


def test_a_manifest_that_a_reader_refuses_is_refused_before_a_byte_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TENSORS_BYTES", 1_000)
    with pytest.raises(UnsavableStateError, match=r"tensors\.json"):
        saved(tmp_path, small())
    assert os.listdir(tmp_path) == []


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


def test_a_state_that_its_reader_would_refuse_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {"seen": [number + 0.5 for number in range(3_000)]}
    monkeypatch.setattr(limits, "PROGRAM_MEMORY", 100_000)
    with pytest.raises(UnsavableStateError, match="100,000 bytes of memory") as caught:
        saved(tmp_path, {}, extra={"loader": seen}, name="one")
    assert "as a tensor" in caught.value.hint
    assert not (tmp_path / "one").exists()
