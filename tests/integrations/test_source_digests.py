"""A source is read once for its digest and those of its tensors; the comparison is with these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.integrations import convert as module
from smartcash_format.integrations import source_digests
from smartcash_format.integrations.convert import convert
from smartcash_format.integrations.found import Found
from smartcash_format.integrations.huggingface import read_file
from smartcash_format.integrations.legacy_pt import read_torch_file
from smartcash_format.integrations.source_digests import SourceDigests
from smartcash_format.integrations.target import list_target
from smartcash_format.spec import digest
from smartcash_format.torch_io.dtypes import bytes_of

BASE = torch.arange(24.0).reshape(4, 6)
STATE = {
    "whole": BASE.clone(),
    "row": BASE[1],
    "column": BASE[:, 1],
    "again": BASE[1],
    "half": torch.ones(3, dtype=torch.bfloat16),
    "odd": torch.tensor([1, 2, 3], dtype=torch.uint8),
    "scalar": torch.tensor(7),
    "empty": torch.empty(0, 3),
}


def found_in(path: Path) -> Found:
    if path.suffix == ".safetensors":
        return read_file(path)
    data = read_torch_file(path)
    return Found(source=path, kind="a state dict", mapped=[data.mapped], model=data.value)


def written(directory: Path, suffix: str) -> Path:
    path = directory / f"w{suffix}"
    if suffix == ".safetensors":
        save_file({name: value.clone() for name, value in STATE.items()}, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=suffix == ".pt")
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_the_digests_are_those_of_the_file_and_of_each_tensor(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, suffix)
    found = found_in(path)
    told: list[tuple[int, int]] = []
    digests = SourceDigests(found, lambda done, total: told.append((done, total)))
    assert digests.of_files == {path: digest.digest_of(path.read_bytes())}
    assert told[-1] == (path.stat().st_size,) * 2
    for name, value in found.model.items():
        assert digests.of(value) == digest.digest_of(bytes_of(STATE[name].contiguous()))
    other = torch.tensor([1.0, 2.0])
    assert digests.of(other) == digest.digest_of(bytes_of(other))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_tensor_of_the_file_is_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    found = found_in(written(tmp_path, suffix))
    digests = SourceDigests(found)
    looked: list[torch.Tensor] = []
    monkeypatch.setattr(source_digests, "digest_of_tensor", looked.append)
    for value in found.model.values():
        digests.of(value)
    # What has no bytes, and what lies in another order than in a file.
    wanted = {".safetensors": 1, ".pt": 2}
    assert len(looked) == wanted[suffix]


@pytest.mark.parametrize("part", ["model_state_dict", "optimizer_state_dict"])
def test_a_source_that_changes_after_it_was_digested_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    layer = torch.nn.Linear(4, 4)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(4)).sum().backward()
    optimizer.step()
    optimizer.state[layer.weight]["exp_avg"].fill_(0.5)
    with torch.no_grad():
        layer.weight.fill_(0.25)
    wanted = {"model_state_dict": layer.weight.detach(), "optimizer_state_dict": BASE[:0]}
    wanted["optimizer_state_dict"] = optimizer.state[layer.weight]["exp_avg"]
    path = tmp_path / "training.pt"
    state = {"model_state_dict": layer.state_dict(), "epoch": 1}
    torch.save({**state, "optimizer_state_dict": optimizer.state_dict()}, path)
    at = path.read_bytes().index(bytes(bytes_of(wanted[part])))

    def changed(root: Any) -> Any:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"\x01")
        return list_target(root)

    monkeypatch.setattr(module, "list_target", changed)
    with pytest.raises(InvalidCheckpointError, match="differs"):
        convert(path, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []
