"""The README's Python runs as it stands, on its first run and on every later one."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

import smartcash_format
from tests.manager.training import training

README = Path(__file__).parent.parent / "README.md"
_FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CALL = re.compile(r"`(?:manager\.)?([a-z_]+)\(")

pytestmark = pytest.mark.torch


def names(epochs: int) -> dict[str, Any]:
    """What the README's example takes for granted."""
    live = training()

    def train_one_epoch(*_: object) -> float:
        return live.step()

    return {
        **live.live(),
        "batches": range(3),
        "train_step": lambda batch: live.step(),
        "config": {"lr": 0.01},
        "epochs": epochs,
        "train_one_epoch": train_one_epoch,
    }


def run(epochs: int) -> dict[str, Any]:
    found = names(epochs)
    for number, snippet in enumerate(_FENCE.findall(README.read_text("utf-8")), 1):
        exec(compile(snippet, f"README snippet {number}", "exec"), found)
    return found


def test_the_ten_lines_run_first_and_again_and_go_on_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(epochs=2)["start"] == 0
    again = run(epochs=5)
    assert again["start"] == 2
    epochs = [entry.epoch for entry in again["manager"].list_checkpoints()]
    assert epochs == [5, 4, 3, 2, 1]
    assert again["best_val_loss"] == min(
        entry.metrics["val_loss"] for entry in again["manager"].list_checkpoints()
    )


def test_a_run_that_is_ended_within_an_epoch_trains_every_batch_of_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, guarded = _FENCE.findall(README.read_text("utf-8"))[:2]
    done = []

    def train_step(batch: int) -> None:
        done.append((found["epoch"], batch))
        if done[-1] == (2, 1):
            signal.raise_signal(signal.SIGINT)

    found = {**names(epochs=0), "train_step": train_step}
    exec(first, found)
    found["epochs"] = 4
    with pytest.raises(KeyboardInterrupt):
        exec(guarded, found)
    assert done[-1] == (2, 1)
    found = {**names(epochs=0), "train_step": train_step}
    exec(first, found)
    assert found["start"] == 1
    found["epochs"] = 4
    found["train_step"] = lambda batch: done.append((found["epoch"], batch))
    exec(guarded, found)
    assert set(done) == {(epoch, batch) for epoch in (1, 2, 3, 4) for batch in range(3)}


def test_the_example_is_about_ten_lines() -> None:
    (example, *_) = _FENCE.findall(README.read_text("utf-8"))
    assert len(example.splitlines()) <= 15


def test_five_lines_say_what_is_promised_and_what_is_not() -> None:
    section = README.read_text("utf-8").partition("\n## What is promised\n")[2]
    promise, _, rest = section.strip().partition("Not promised: ")
    assert promise.startswith("Promised: ")
    assert rest
    assert (
        len(section.partition("\n## ")[0].strip().splitlines()) <= 6
    )  # five, and where it is tried


def test_every_call_that_the_readme_names_is_there() -> None:
    text = README.read_text("utf-8").partition("## The API")[2].partition("## Coming from")[0]
    public = {*dir(smartcash_format.CheckpointManager), *smartcash_format.__all__, "state_dict"}
    assert set(_CALL.findall(text)) - public == set()


def test_every_figure_about_speed_was_printed_by_the_benchmarks() -> None:
    printed = (README.parent / "docs" / "benchmarks.md").read_text("utf-8").splitlines()
    _, _, rest = README.read_text("utf-8").partition("<!-- figures: ")
    shown, end, _ = rest.partition("<!-- end of figures -->")
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert end
    assert len(rows) > 20
    assert [row for row in rows if row not in printed] == []
    for asked in ("durable", "find the best", "STRUCTURE", "CONTENT", "50 files", "import torch"):
        assert any(asked in row for row in rows), asked


def test_the_rows_of_the_figures_are_those_that_the_benchmarks_have_now() -> None:
    code = "".join(path.read_text("utf-8") for path in (README.parent / "benchmarks").glob("*.py"))
    text = (README.parent / "docs" / "benchmarks.md").read_text("utf-8")
    _, _, printed = text.partition("<!-- figures: ")
    rows = [row.split("|")[1].strip() for row in printed.splitlines() if row.startswith("| **")]
    # A target names its way and what that is measured by.
    names = {row.partition(", of ")[0] for row in rows}
    assert len(names) >= 4
    assert [name for name in names if name not in code] == []


_DOCUMENTS = sorted(
    path.relative_to(README.parent)
    for pattern in ("*.md", "docs/**/*.md", "schemas/*.md", "examples/*.md")
    for path in README.parent.glob(pattern)
)


@pytest.mark.parametrize("document", _DOCUMENTS, ids=str)
def test_every_link_leads_to_a_file_that_a_fresh_clone_has(document: Path) -> None:
    links = _LINK.findall((README.parent / document).read_text("utf-8"))
    targets = [link.partition("#")[0] for link in links if "://" not in link]
    found = [(README.parent / document.parent / target).resolve() for target in targets]
    root = README.parent.resolve()
    # `runs` is what the demo leaves behind.
    assert [path for path in found if not path.exists() or path.is_relative_to(root / "runs")] == []
