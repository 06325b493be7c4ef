"""What a module's own code makes of an older state is honoured, and tried on no live tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.errors import StateMismatchError
from smartcash_format.torch_io.load import load_checkpoint
from tests.torch_io import handmade
from tests.torch_io.same import assert_same


def saved(tmp_path: Path, state: dict[str, torch.Tensor], **facts: Any) -> Path:
    return handmade.write(tmp_path / "c", weights={"model": state}, **facts)


def without_counts(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: t for n, t in model.state_dict().items() if "num_batches" not in n}


def test_a_batch_norm_of_version_one_loads_as_in_torch(tmp_path: Path) -> None:
    torch.manual_seed(1)
    old = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    path = saved(tmp_path, without_counts(old))
    live = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    result = load_checkpoint(path, model=nn.DataParallel(live))
    assert result.missing == ()
    assert_same(without_counts(live), without_counts(old))


def test_a_batch_norm_of_the_present_version_lacks_its_count(tmp_path: Path) -> None:
    old = nn.Sequential(nn.BatchNorm2d(2))
    path = saved(tmp_path, without_counts(old), versions={"0": 2})
    with pytest.raises(StateMismatchError, match=r"0\.num_batches_tracked"):
        load_checkpoint(path, model=nn.Sequential(nn.BatchNorm2d(2)))


class Renamed(nn.Module):
    """It was called `old` in version 1."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.new = nn.Parameter(torch.zeros(3))

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
        if metadata["version"] < 2:
            state[f"{prefix}new"] = state.pop(f"{prefix}old")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


class Grows(nn.Module):
    """It takes the size of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(2, 3))

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        self.table = nn.Parameter(torch.zeros(state[f"{prefix}table"].shape))
        super()._load_from_state_dict(state, prefix, *rest)


def test_a_module_that_renames_what_it_was_gets_the_old_name(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a.old": torch.arange(3.0)})
    live = nn.ModuleDict({"a": Renamed()})
    load_checkpoint(path, model=live)
    assert live.get_parameter("a.new").tolist() == [0, 1, 2]


def test_a_name_that_no_code_takes_stays_a_problem(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a.older": torch.arange(3.0)})
    with pytest.raises(StateMismatchError) as caught:
        load_checkpoint(path, model=nn.ModuleDict({"a": Renamed()}))
    assert [p.code for p in caught.value.problems] == ["tensor-missing", "tensor-unexpected"]


def test_a_module_that_grows_is_tried_without_growing(tmp_path: Path) -> None:
    table = torch.rand(5, 3)
    path = saved(tmp_path, {"a.table": table, "b.weight": torch.zeros(1, 1)})
    live: Any = nn.ModuleDict({"a": Grows(), "b": nn.Linear(1, 1)})
    with pytest.raises(StateMismatchError, match=r"b\.bias"):
        load_checkpoint(path, model=live)
    assert live["a"].table.shape == (2, 3)
    load_checkpoint(path, model=live, strict=False)
    assert_same(live["a"].table.detach(), table)
