"""Other programs' files become checkpoints: bit for bit, no code runs, nothing is left behind."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.disk.observe import validate
from smartcash_format.disk.read import read_meta
from smartcash_format.errors import (
    CheckpointNotFoundError,
    CheckpointWriteError,
    InvalidCheckpointError,
    UnsafeCheckpointError,
    UnsavableStateError,
)
from smartcash_format.integrations import convert as module
from smartcash_format.integrations.comparison import compare, same, same_bits
from smartcash_format.integrations.convert import Conversion, convert, sources_in
from smartcash_format.spec.problems import Depth
from smartcash_format.torch_io.load import load_checkpoint
from smartcash_format.torch_io.read_state import load_tensors
from smartcash_format.torch_io.save import prepare
from tests.integrations.sources import smartcash, trained, write_yolo
from tests.ready import Ready


def _fields(done: Conversion) -> dict[str, str]:
    return {field.name: str(field.known) for field in done.fields}


def _converted(done: Conversion) -> Path:
    assert done.path is not None
    assert validate(done.path, Depth.CONTENT).problems == ()
    return done.path


def test_a_training_of_smartcash_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    model, optimizer, scheduler = trained()
    source = tmp_path / "best.pth"
    torch.save(smartcash(model, optimizer, scheduler), source)
    done = convert(source, tmp_path / "root")
    path = _converted(done)
    meta = read_meta(path)
    assert (meta.epoch, meta.is_best, meta.backbone, meta.dataset) == (
        12,
        True,
        "efficientnet_b4",
        "roboflow",
    )
    assert meta.metrics["val_map"] == 0.75
    assert meta.saved_at == datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (meta.notes["phase"], meta.notes["session_id"]) == (2, "20250102_030405")
    known = _fields(done)
    assert known["epoch"] == known["optimizer"] == known["saved_at"] == "read"
    assert (known["is_best"], known["step"]) == ("inferred", "unknown")
    fresh, other, schedule = trained()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    load_checkpoint(path, model=fresh, optimizer=other, scheduler=schedule)
    assert same(model.state_dict(), fresh.state_dict())
    assert same(optimizer.state_dict(), other.state_dict())
    assert schedule.state_dict() == scheduler.state_dict()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_whole_module_comes_in_bit_for_bit_without_its_package(
    tmp_path: Path, ready: Ready, form: str
) -> None:
    source, expected = write_yolo(tmp_path, form, ready)
    done = convert(source, tmp_path / "root")
    path = _converted(done)
    for name in ("model", "ema"):
        stored = load_tensors(path, weight_set=name)
        assert stored
        assert set(stored) == set(expected[name])
        assert all(same_bits(stored[key], expected[name][key]) for key in stored)
    meta = read_meta(path)
    assert meta.weights["model"].class_name == "DetectionModel"
    assert (meta.epoch, meta.metrics["best_fitness"]) == (5, 0.25)
    assert meta.notes["names"] == {"0": "1000", "1": "2000"}
    assert meta.saved_at == datetime(2024, 5, 6, 7, 8, 9, 101112, tzinfo=UTC)
    assert any("grid" in line for line in done.dropped)
    assert any("the code of models.yolo.DetectionModel" in line for line in done.dropped)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_plain_state_dict_comes_in_with_its_versions(tmp_path: Path, zipped: bool) -> None:
    model, _, _ = trained()
    source = tmp_path / "weights_epoch_7.pt"
    torch.save(model.state_dict(), source, _use_new_zipfile_serialization=zipped)
    done = convert(source, tmp_path / "root")
    fresh = trained()[0]
    load_checkpoint(_converted(done), model=fresh)
    assert same(model.state_dict(), fresh.state_dict())
    assert read_meta(_converted(done)).epoch == 7
    assert _fields(done)["epoch"] == "inferred"


def test_every_layout_of_a_tensor_comes_in(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "a": base.t(),
        "b": base[1:3, ::2],
        "c": base[1:3, ::2],
        "d": torch.tensor(3),
        "e": torch.empty(0, 3),
        "f": torch.ones(3, dtype=torch.bfloat16),
        "g": torch.tensor([float("nan")], dtype=torch.float16),
        "h": torch.tensor([True]),
    }
    for zipped in (True, False):
        source = tmp_path / f"{zipped}.pt"
        torch.save(state, source, _use_new_zipfile_serialization=zipped)
        stored = load_tensors(_converted(convert(source, tmp_path / "root")))
        assert all(same_bits(stored[key], state[key]) for key in state)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_conjugated_and_a_negated_tensor_come_in_with_their_values(
    tmp_path: Path, zipped: bool
) -> None:
    numbers = torch.tensor([1 + 2j, 3 - 4j])
    state = {
        "a.conj": numbers.conj(),
        "a.neg": numbers.clone().conj().imag,
        "a.part": torch.stack([numbers, numbers]).conj()[:, 1],
    }
    assert state["a.conj"].is_conj()
    assert state["a.neg"].is_neg()
    source = tmp_path / "w.pt"
    torch.save(state, source, _use_new_zipfile_serialization=zipped)
    expected = torch.load(source, weights_only=True)
    stored = load_tensors(_converted(convert(source, tmp_path / "root")))
    for name, value in expected.items():
        assert torch.equal(stored[name], value.resolve_conj().resolve_neg())


_WIDER = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz")


def test_dtypes_without_a_storage_class_of_their_own_come_in(tmp_path: Path) -> None:
    raw = torch.arange(32, dtype=torch.uint8)
    state = {f"w.{name}": raw.view(getattr(torch, name)) for name in _WIDER}
    source = tmp_path / "w.pt"
    torch.save(state, source)
    stored = load_tensors(_converted(convert(source, tmp_path / "root")))
    assert all(same_bits(stored[name], value) for name, value in state.items())


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path: Path) -> None:
    model, optimizer, scheduler = trained()
    source = tmp_path / "last.pth"
    torch.save(smartcash(model, optimizer, scheduler), source)
    planned = convert(source, tmp_path / "root", dry_run=True)
    assert planned.path is None
    assert not (tmp_path / "root").exists()
    done = convert(source, tmp_path / "root")
    assert planned.fields == done.fields
    assert planned.size_bytes >= done.size_bytes


class _Attack:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def _attacks(marker: Path) -> dict[str, Any]:
    return {
        "posix.system": _Attack(os.system, f"touch {marker}"),
        "builtins.eval": _Attack(eval, f"open({str(marker)!r}, 'w')"),
        "builtins.getattr": _Attack(getattr, "text", "upper"),
    }


@pytest.mark.attack("convert", "a call of a function (`posix.system`, `builtins.eval`, `getattr`)")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("asked", ["posix.system", "builtins.eval", "builtins.getattr"])
def test_a_program_in_a_pickle_is_refused_by_name_and_not_run(
    tmp_path: Path, asked: str, zipped: bool
) -> None:
    marker = tmp_path / "ran"
    source = tmp_path / "evil.pt"
    value = {"model_state_dict": {"w": torch.ones(1)}, "x": _attacks(marker)[asked]}
    torch.save(value, source, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeCheckpointError, match=r"evil\.pt was not read") as refused:
        convert(source, tmp_path / "root", allow=("torch.utils.*",))
    assert refused.value.first_refused == asked
    assert not marker.exists()
    assert not (tmp_path / "root").exists()


@pytest.mark.attack("convert", "a function that `--allow` names: it becomes inert")
def test_a_class_that_is_allowed_by_name_is_inert_whatever_it_is(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    value = {"model_state_dict": {"w": torch.ones(1)}, "x": _attacks(marker)["posix.system"]}
    torch.save(value, tmp_path / "odd.pt")
    done = convert(tmp_path / "odd.pt", tmp_path / "root", allow=("posix.*",))
    assert read_meta(_converted(done)).notes["x"] == "<posix.system>"
    assert not marker.exists()


@pytest.mark.attack("convert", "TorchScript, ONNX, torch's first format (tar), something else")
def test_what_is_no_file_of_weights_is_refused_with_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "model.pt"
    with zipfile.ZipFile(script, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({}, 2))
        archive.writestr("model/code/__torch__.py", "")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07")
    (tmp_path / "text.pt").write_bytes(b"hello")
    with tarfile.open(tmp_path / "first.pt", "w") as archive_of_torch_0_1:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            entry = tarfile.TarInfo(name)
            archive_of_torch_0_1.addfile(entry, io.BytesIO())
    for name, words in (
        ("first.pt", "a tar archive.*load and save it with torch"),
        ("model.pt", r"save the state_dict\(\)"),
        ("model.onnx", "convert the .pt"),
        ("text.pt", "no torch file"),
    ):
        with pytest.raises(UnsafeCheckpointError, match=words):
            convert(tmp_path / name, tmp_path / "root")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(UnsavableStateError, match="no weights"):
        convert(tmp_path / "empty.pt", tmp_path / "root")
    with pytest.raises(CheckpointNotFoundError):
        convert(tmp_path / "nothing.pt", tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.attack("convert", "a file cut short")
def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    for zipped in (True, False):
        source = tmp_path / "cut.pt"
        torch.save({"w": torch.ones(1_000)}, source, _use_new_zipfile_serialization=zipped)
        source.write_bytes(source.read_bytes()[:-2_000])
        with pytest.raises(UnsafeCheckpointError, match=r"cut\.pt was not read"):
            convert(source, tmp_path / "root")


def test_what_differs_from_the_source_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "w.pt"
    torch.save({"w": torch.ones(3)}, source)

    def changed(found: Any, staged: Path, digests: Any) -> None:
        found.model["w"] = torch.zeros(3)
        compare(found, staged, digests)

    monkeypatch.setattr(module, "compare", changed)
    with pytest.raises(InvalidCheckpointError, match="differs"):
        convert(source, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_a_directory_of_torch_files_is_searched(tmp_path: Path) -> None:
    for name in ("b.pt", "a.pth", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in sources_in([tmp_path])] == ["a.pth", "b.pt"]


@pytest.mark.attack("convert", "a tensor that reaches beyond its storage")
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "expanded.pt"
    torch.save({"w": torch.ones(1).expand(1_000_000)}, source)
    with pytest.raises(UnsavableStateError, match="in a storage of 1 elements"):
        convert(source, tmp_path / "root")


def test_an_ema_without_a_model_is_both(tmp_path: Path) -> None:
    state = nn.Linear(2, 2).state_dict()
    torch.save({"epoch": -1, "model": None, "ema": state}, tmp_path / "u.pt")
    done = convert(tmp_path / "u.pt", tmp_path / "root")
    assert _fields(done)["model"] == "inferred"
    assert _fields(done)["epoch"] == "unknown"
    assert set(read_meta(_converted(done)).weights) == {"model", "ema"}


def test_a_large_source_becomes_shards_and_each_tensor_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "w.pt"
    torch.save({name: torch.full((3,), float(ord(name))) for name in "abc"}, source)
    monkeypatch.setattr(module, "prepare", partial(prepare, max_shard_bytes=12))
    done = convert(source, tmp_path / "root")
    assert done.path is not None
    assert len(list(done.path.glob("model-*-of-00003.safetensors"))) == 3
    assert load_tensors(done.path)["b"].tolist() == [98.0] * 3


def test_one_text_is_no_list_of_patterns(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "a.pt")
    with pytest.raises(TypeError, match=r"pass \['mypackage\.\*'\]"):
        convert(tmp_path / "a.pt", tmp_path / "root", allow="mypackage.*")
    assert not (tmp_path / "root").exists()


def test_a_root_that_is_no_directory_is_an_error_of_ours(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "a.pt")
    (tmp_path / "root").touch()
    with pytest.raises(CheckpointWriteError, match="root was not written to: Not a directory"):
        convert(tmp_path / "a.pt", tmp_path / "root")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(CheckpointWriteError, match="was not converted: Not a directory"):
        convert(tmp_path / "a.pt", tmp_path / "link")
