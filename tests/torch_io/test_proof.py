"""What was written is read as a load will read it, before it is published."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch

from smartcash_format.disk import placing, write
from smartcash_format.errors import InvalidCheckpointError, UnsavableStateError
from smartcash_format.spec import layout
from smartcash_format.torch_io import proof
from tests.torch_io.saving import is_whole, saved
from tests.torch_io.sources import small
from tests.torch_io.zoo import stepped

pytestmark = pytest.mark.torch


@pytest.fixture
def nothing_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """No form is known from an earlier save, so that the readers are asked."""
    monkeypatch.setattr(proof, "_proved", {})


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


@pytest.mark.usefixtures("nothing_is_proved")
def test_safetensors_is_asked_once_for_each_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def opened(path: str, **kwargs: Any) -> Any:
        asked.append(path)
        return safetensors.safe_open(path, **kwargs)

    monkeypatch.setattr(proof, "safe_open", opened)
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


@pytest.mark.usefixtures("nothing_is_proved")
def test_what_torch_would_not_load_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("Weights only load failed")

    monkeypatch.setattr(proof, "torch_load", refuse)
    with pytest.raises(UnsavableStateError, match="Weights only load failed"):
        saved(tmp_path, small())
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("nothing_is_proved")
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
    assert is_whole(saved(tmp_path, small()).path)
    assert tried == [True, False]


@pytest.mark.usefixtures("nothing_is_proved")
def test_torch_is_asked_once_for_states_that_differ_in_numbers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def load(path: Path, **kwargs: Any) -> Any:
        asked.append(path.name)
        return torch.serialization.load(path, **kwargs)

    monkeypatch.setattr(proof, "torch_load", load)
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
