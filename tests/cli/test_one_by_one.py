"""Many short pieces of work: one bar over all of them, told to the end; none over one alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smartcash_format.spec import watching
from smartcash_format.spec.watching import Progress
from tests.cli.conftest import Run
from tests.store.checkpoints import write_checkpoint

Bars = dict[str, list[tuple[int, int]]]


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> Bars:
    """What every bar was told, by its name."""
    seen: Bars = {}

    @contextmanager
    def recording(what: str, unit: str) -> Iterator[Progress | None]:
        told = seen.setdefault(what, []) if unit == watching.BYTES else []
        yield lambda done, total: told.append((done, total))

    monkeypatch.setattr(watching, "_shown_by", [recording])
    return seen


def test_a_root_is_validated_under_one_bar(run: Run, tmp_path: Path, bars: Bars) -> None:
    for number in (1, 2, 3):
        write_checkpoint(tmp_path / "root", number)
    (tmp_path / "root" / "epoch-0002-00000002" / "meta.json").write_text("{")
    sizes = [
        sum(file.stat().st_size for file in path.iterdir())
        for path in sorted((tmp_path / "root").iterdir())
    ]
    run("validate", tmp_path / "root", "--depth", "content")
    told = bars["validating checkpoints"]
    assert told == [
        (sum(sizes[:1]), sum(sizes)), (sum(sizes[:2]), sum(sizes)), (sum(sizes), sum(sizes))
    ]  # fmt: skip
    assert "validating epoch-0001-00000001" in bars


def test_what_is_not_there_counts_nothing(run: Run, tmp_path: Path, bars: Bars) -> None:
    path = write_checkpoint(tmp_path, 1)
    run("validate", path, tmp_path / "nowhere")
    ((first, total), last) = bars["validating checkpoints"]
    assert (first, total) == last


def test_one_alone_has_no_bar_but_its_own(run: Run, tmp_path: Path, bars: Bars) -> None:
    run("validate", write_checkpoint(tmp_path, 1), "--depth", "content")
    assert list(bars) == ["validating epoch-0001-00000001"]


@pytest.mark.torch
def test_files_are_converted_under_one_bar_also_past_one_that_is_refused(
    run: Run, tmp_path: Path, bars: Bars
) -> None:
    import torch

    for name in ("a.pt", "c.pt"):
        torch.save({"model_state_dict": {"w": torch.ones(3)}, "epoch": 1}, tmp_path / name)
    (tmp_path / "b.pt").write_bytes(b"no torch file")
    run("convert", tmp_path, "-o", tmp_path / "root")
    told = bars["converting files"]
    assert len(told) == 3
    assert told[-1][0] == told[-1][1] == sum(f.stat().st_size for f in tmp_path.glob("*.pt"))
