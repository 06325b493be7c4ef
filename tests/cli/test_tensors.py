"""The tensors of a checkpoint, as a person reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartcash_format.cli.commands import tensors
from smartcash_format.store.compare import read_documents
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run
from tests.store.checkpoints import write_weighed


def test_tensors_of_several_weight_sets_stand_below_the_name_of_theirs(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_weighed(tmp_path, 1, {"stem.weight": 1.0})
    assert "weights" not in run("tensors", path).out
    meta, manifest = read_documents(path)
    both = {"ema": manifest.weights["model"], **manifest.weights}
    doubled = meta, manifest.model_copy(update={"weights": both})
    monkeypatch.setattr(tensors, "read_documents", lambda _: doubled)
    lines = run("tensors", path).out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["weights", "name", "stem.weight"] * 2
    assert [line for line in lines if line.startswith("weights")] == [
        "weights ema",
        "weights model",
    ]


@pytest.mark.parametrize("form", ["json", "csv", "paths"])
def test_a_tree_of_tensors_is_a_table(run: Run, tmp_path: Path, form: str) -> None:
    ran = run("tensors", write_sample(tmp_path, epoch=1), "--tree", "--format", form)
    assert (ran.code, ran.out) == (2, "")
    assert f"--tree draws a table, not {form}" in ran.err
