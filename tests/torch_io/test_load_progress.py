"""What a load says of itself while it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartcash_format.disk.read import read_meta
from smartcash_format.torch_io.load import load_checkpoint
from tests.torch_io.saving import saved
from tests.torch_io.zoo import stepped

pytestmark = pytest.mark.torch


def test_progress_counts_every_byte_that_is_verified(tmp_path: Path) -> None:
    training = stepped("AdamW")
    path = saved(tmp_path, training.model, optimizer=training.optimizer).path
    seen: list[tuple[int, int]] = []
    load_checkpoint(
        path,
        model=training.model,
        optimizer=training.optimizer,
        progress=lambda done, total: seen.append((done, total)),
    )
    listed = read_meta(path).files
    assert {total for _, total in seen} == {sum(file.size_bytes for file in listed.values())}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]
