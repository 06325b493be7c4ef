from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import safetensors

from smartcash_format.disk import placing, write
from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.spec import layout
from smartcash_format.torch_io import proof
from tests.torch_io.saving import saved
from tests.torch_io.zoo import stepped

pytestmark = pytest.mark.torch


def damage(monkeypatch: pytest.MonkeyPatch, old: bytes, new: bytes) -> None:
    """Lets the disk keep other bytes than those that were written."""

    def damaged(descriptor: int, offset: int, buffers: Any) -> None:
        placing.write_at(
            descriptor, offset, [b"".join(bytes(data).replace(old, new) for data in buffers)]
        )

    monkeypatch.setattr(write, "write_at", damaged)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"exp_avg_sq", b"exp_avg_sp"), (b"PK\x01\x02", b"PK\x01\x03"), (b"data/3", b"data/9")],
)
def test_a_program_of_a_known_form_is_compared_with_what_the_disk_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes, new: bytes
) -> None:
    training = stepped("AdamW")
    saved(tmp_path, training.model, optimizer=training.optimizer, rng=False, name="one")
    damage(monkeypatch, old, new)
    with pytest.raises(InvalidCheckpointError, match=layout.OPTIMIZER):
        saved(tmp_path, training.model, optimizer=training.optimizer, rng=False, name="two")
    assert os.listdir(tmp_path) == ["one"]


def test_safetensors_is_asked_once_for_each_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def opened(path: str, **kwargs: Any) -> Any:
        asked.append(path)
        return safetensors.safe_open(path, **kwargs)

    monkeypatch.setattr(proof, "safe_open", opened)
    monkeypatch.setattr(proof, "_proved", {})
    training = stepped("AdamW")
    saved(tmp_path, training.model, rng=False, name="one")
    assert len(asked) == 1
    for parameter in training.model.parameters():
        parameter.data.zero_()
    saved(tmp_path, training.model, rng=False, name="two")
    assert len(asked) == 1
    saved(tmp_path, {"other": parameter.detach()}, rng=False, name="three")
    assert len(asked) == 2


def test_a_header_that_the_disk_has_otherwise_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = stepped("AdamW")
    saved(tmp_path, training.model, rng=False, name="one")
    damage(monkeypatch, b'"F32","shape"', b'"I32","shape"')
    with pytest.raises(InvalidCheckpointError, match="differs between"):
        saved(tmp_path, training.model, rng=False, name="two")
    assert os.listdir(tmp_path) == ["one"]
