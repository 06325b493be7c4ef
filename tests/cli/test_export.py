"""`export`: one file, and what it says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run

pytestmark = pytest.mark.torch


def test_the_file_is_named_with_what_it_holds(run: Run, tmp_path: Path) -> None:
    checkpoint = write_sample(tmp_path / "root", epoch=1)
    file = tmp_path / "model.safetensors"
    ran = run("export", checkpoint, "-o", file)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{file}: ")
    again = run("export", checkpoint, "-o", file)
    assert again.code == 3
    assert again.err.endswith(f"{file} exists already; nothing was written; --force replaces it\n")
    forced = run("export", checkpoint, "-o", file, "--force", "--format", "json")
    document = json.loads(forced.out)
    assert (document["kind"], document["path"]) == ("smartcash-format/export", str(file))
    assert document["size_bytes"] == file.stat().st_size


def test_torch_is_a_form_too(run: Run, tmp_path: Path) -> None:
    import torch

    checkpoint = write_sample(tmp_path / "root", epoch=1)
    file = tmp_path / "model.pt"
    assert run("export", checkpoint, "-o", file, "--to", "torch").code == 0
    assert torch.load(file, weights_only=True)
    named = tmp_path / "named.pt"
    assert run("export", checkpoint, "-o", named).code == 0
    assert torch.load(named, weights_only=True)
