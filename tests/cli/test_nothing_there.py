"""What a command says where there is nothing to look at, or something of another kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartcash_format.store.checkpoint_store import strip
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run
from tests.store.checkpoints import write_checkpoint


def write_broken(root: Path, name: str) -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "meta.json").write_text("{")
    return root / name


@pytest.mark.parametrize(
    "command", [["doctor"], ["doctor", "--fix"], ["history"], ["prune"]], ids=" ".join
)
def test_a_checkpoint_is_no_root_to_look_into(run: Run, tmp_path: Path, command: list[str]) -> None:
    path = write_checkpoint(tmp_path / "my root", 1)
    ran = run(*command, path)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith(
        f"{path} is a checkpoint, not a directory of them: smartcash-format show '{path}'\n"
    )


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["prune"], 0, "{root} has no checkpoint"),
        (["prune", "--apply"], 0, "{root} has no checkpoint"),
        (["history"], 1, "{root} tells of no save"),
        (["best"], 1, "there is no checkpoint"),
    ],
    ids=str,
)
def test_an_empty_root_is_told_in_a_sentence(
    run: Run, tmp_path: Path, command: list[str], code: int, said: str
) -> None:
    ran = run(*command, tmp_path)
    assert ran.code == code
    assert f"smartcash-format: {said.format(root=tmp_path)}\n" in ran.err


def test_a_report_of_nothing_is_written_and_nothing_was_found(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    (tmp_path / "root").mkdir()
    ran = run("report", tmp_path / "root", "-o", file)
    assert ran.code == 1
    assert ran.out.startswith(f"{file}: 0 checkpoints, ")
    assert file.stat().st_size
    write_checkpoint(tmp_path / "root", 1)
    ran = run("report", tmp_path / "root", "-o", file)
    assert ran.code == 0
    assert ran.out.startswith(f"{file}: 1 checkpoint, ")


def test_best_says_how_many_took_no_part_and_shows_the_one(run: Run, tmp_path: Path) -> None:
    write_broken(tmp_path, "torn")
    ran = run("best", tmp_path)
    assert ran.code == 1
    assert "1 checkpoint cannot be read and took no part" in ran.err
    path = write_checkpoint(tmp_path, 1, is_best=True)
    write_broken(tmp_path, "half")
    ran = run("best", tmp_path, "--format", "table")
    assert "2 checkpoints cannot be read and took no part" in ran.err
    assert path.name in ran.out
    assert "torn" not in ran.out


def test_doctor_says_what_to_do_about_what_is_broken(run: Run, tmp_path: Path) -> None:
    write_broken(tmp_path, "torn")
    said = " ".join(run("doctor", tmp_path).out.split())
    assert "[json-syntax] -> copy the checkpoint again from its source" in said


def test_one_is_one_in_the_line_below_a_listing(run: Run, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1)
    (tmp_path / "old.pth").write_bytes(b"")
    out = run("ls", tmp_path).out
    assert "\n1 checkpoint, 16.0 kB, 1 old .pt or .pth file (smartcash-format convert)" in out


def test_optimizer_state_that_was_deleted_by_hand_is_not_the_end_of_its_weights(
    run: Run, tmp_path: Path
) -> None:
    path = write_sample(tmp_path, epoch=1)
    (path / "optimizer.pt").unlink()
    for command in ("validate", "doctor"):
        said = " ".join(run(command, tmp_path).out.split())
        assert "[file-missing] -> restore the file from a copy; without it smartcash_" in said
    strip(path)
    assert run("validate", tmp_path).code == 0
    weights = write_sample(tmp_path, epoch=2) / "model.safetensors"
    weights.unlink()
    assert "strip" not in run("validate", tmp_path).out
