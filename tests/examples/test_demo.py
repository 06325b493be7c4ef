"""The demo's kill hits a save or nothing, and what it promises it checks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import train_detector
from examples.demo import (
    KILLED,
    OUTPUT_DIR,
    DemoError,
    Wreck,
    check_what_is_left,
    compare_runs,
    half_written,
    kill_in_a_save,
    page_of,
    record_of,
    show,
)
from smartcash_format import CheckpointManager
from tests.examples.smallest import smallest

# Saves once, holding each stage for a moment, in the order of the real writer: meta.json last.
SAVER = """
import os, sys, time
root = sys.argv[1]
for epoch in range(1, 1000):
    stage = f"{root}/.staging-{epoch}"
    os.mkdir(stage)
    for name in ("model.safetensors", "optimizer.pt", "meta.json"):
        with open(f"{stage}/{name}", "w") as file:
            file.write("x" * 1000)
        time.sleep(0.02)
    os.rename(stage, f"{root}/epoch-{epoch}")
"""


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", SAVER, tmp_path], text=True) as process:
        yield process
        process.kill()


def _stage(root: Path, **sizes: int) -> Path:
    stage = root / ".staging-1"
    stage.mkdir()
    for name, size in sizes.items():
        (stage / name.replace("_", ".")).write_bytes(b"x" * size)
    return stage


def test_the_kill_leaves_a_half_written_checkpoint_and_the_ones_before(
    saver: subprocess.Popen[str], tmp_path: Path
) -> None:
    wreck = kill_in_a_save(saver, tmp_path)
    assert saver.returncode == -9
    assert half_written(tmp_path) == wreck
    assert set(wreck.sizes) <= {"model.safetensors", "optimizer.pt"}
    number = int(wreck.stage.name.removeprefix(".staging-"))
    assert len(list(tmp_path.glob("epoch-*"))) == number - 1


def test_a_training_that_ends_without_a_save_is_no_success(tmp_path: Path) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", ""], text=True) as process,
        pytest.raises(DemoError, match="before one of its saves could be caught"),
    ):
        kill_in_a_save(process, tmp_path)


def test_a_stage_with_something_written_and_no_meta_is_half_written(tmp_path: Path) -> None:
    stage = _stage(tmp_path, model_safetensors=10, optimizer_pt=0)
    sizes = {"model.safetensors": 10, "optimizer.pt": 0}
    assert half_written(tmp_path) == Wreck(stage=stage, sizes=sizes)


@pytest.mark.parametrize(
    "sizes", [{}, {"model_safetensors": 0}, {"model_safetensors": 10, "meta_json": 10}]
)
def test_an_untouched_or_finished_stage_is_not(tmp_path: Path, sizes: dict[str, int]) -> None:
    _stage(tmp_path, **sizes)
    assert half_written(tmp_path) is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "run"
    train_detector.train(smallest(), root, record_of(root))
    return root


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A finished run of three epochs, for a test to change as it likes."""
    shutil.copytree(trained, tmp_path / "run")
    shutil.copy(record_of(trained), tmp_path)
    return tmp_path / "run"


def test_runs_that_are_the_same_are_said_to_be(
    trained: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare_runs(trained, run, resumed_after=1)
    rows = capsys.readouterr().out.splitlines()[3:]
    assert [row.endswith("values  the same") for row in rows] == [True] * 8
    assert all(len(row) <= 80 for row in rows)


def test_one_loss_that_differs_in_its_last_digit_fails_the_demo(trained: Path, run: Path) -> None:
    record = record_of(run)
    *kept, last = record.read_text().splitlines()
    changed = json.loads(last)
    changed["losses"][1] += 1e-7
    record.write_text("\n".join([*kept, json.dumps(changed)]))
    with pytest.raises(DemoError, match=r"2 places differ, the first is loss of each step.*\[1\]"):
        compare_runs(trained, run, resumed_after=1)


def test_another_state_fails_the_demo_with_the_place(trained: Path, run: Path) -> None:
    newest, before, _ = CheckpointManager(run).list_checkpoints()
    shutil.copy(before / "optimizer.pt", newest / "optimizer.pt")
    with pytest.raises(DemoError, match=r"the first is optimizer\["):
        compare_runs(trained, run, resumed_after=1)


def test_after_the_kill_the_newest_is_the_last_that_was_finished(run: Path) -> None:
    wreck = Wreck(stage=_stage(run, model_safetensors=10), sizes={"model.safetensors": 10})
    assert check_what_is_left(run, wreck) == 3
    record = record_of(run)
    record.write_text("\n".join(record.read_text().splitlines()[:2]))
    with pytest.raises(DemoError, match="after the kill there are the checkpoints"):
        check_what_is_left(run, wreck)


def test_a_wreck_that_has_gone_fails_the_demo(run: Path) -> None:
    with pytest.raises(DemoError, match="not there any more"):
        check_what_is_left(run, Wreck(stage=run / ".staging-1", sizes={"model.safetensors": 10}))


def test_the_report_is_where_the_readme_says_and_its_picture_is_taken() -> None:
    page = page_of(OUTPUT_DIR / KILLED).as_posix()
    checkout = Path(__file__).parents[2]
    # Not a link: a fresh clone has none of it.
    assert f"`{page}`" in (checkout / "README.md").read_text(encoding="utf-8")
    assert "](docs/report.png)" in (checkout / "README.md").read_text(encoding="utf-8")
    script = (checkout / "scripts" / "report_screenshot.sh").read_text(encoding="utf-8")
    assert (OUTPUT_DIR / KILLED).as_posix() in script
    assert "docs/report.png" in script


def test_a_damaged_checkpoint_fails_the_demo(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(run)
    said = capsys.readouterr().out
    assert "All 3 are intact" in said
    assert str(page_of(run)) in said
    assert 'id="answer-name">epoch-' in page_of(run).read_text(encoding="utf-8")
    weights = CheckpointManager(run).list_checkpoints()[1] / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DemoError, match="a checkpoint is damaged"):
        show(run)
