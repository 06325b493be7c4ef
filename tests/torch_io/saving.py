"""A save with facts that no test has to think about, and its parts as torch alone reads them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from smartcash_format.disk.observe import validate
from smartcash_format.spec.problems import Depth
from smartcash_format.torch_io.save import Facts, Saved, save
from smartcash_format.torch_io.state import decode

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def facts(**changes: Any) -> Facts:
    """The facts of a first save of epoch 1, with these changes."""
    plain: dict[str, Any] = {
        "checkpoint_id": str(uuid.uuid4()), "run_id": str(uuid.uuid4()), "parent_id": None,
        "saved_at": MOMENT, "epoch": 1, "step": None, "is_best": False, "metrics": {},
        "backbone": None, "dataset": None, "tags": (), "config": None, "notes": {},
    }  # fmt: skip
    return Facts(**{**plain, **changes})


def saved(root: Path, model: object, *, name: str = "one", **live: Any) -> Saved:
    """The published checkpoint of these live objects under this name."""
    return save(root / name, facts(), model=model, **live)


def is_whole(path: Path) -> bool:
    """That every byte of the checkpoint is as its metadata says, and nothing is to be noticed."""
    report = validate(path, Depth.CONTENT)
    assert report.problems == (), report.problems
    assert report.notices == (), report.notices
    return report.valid


def weights(path: Path, weight_set: str = "model") -> dict[str, torch.Tensor]:
    """The tensors of a weight set, as safetensors reads them."""
    return load_file(path / f"{weight_set}.safetensors")


def state(path: Path, file: str) -> Any:
    """What a torch file holds, read by torch alone and turned back."""
    return decode(torch.load(path / file, weights_only=True))
