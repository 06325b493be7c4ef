"""`doctor` tells what is wrong in a root and mends only what is certainly nobody's any more."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from smartcash_format.disk.owner import this_process
from smartcash_format.disk.strip import strip
from smartcash_format.spec.digest import seal
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run
from tests.store.checkpoints import write_checkpoint


def test_doctor_tells_whether_the_newest_can_be_resumed(run: Run, tmp_path: Path) -> None:
    write_sample(tmp_path, epoch=1)
    newest = write_sample(tmp_path, epoch=2)
    left = tmp_path / ".staging-00000000-1-1-00000000"
    left.mkdir()
    os.utime(left, (1, 1))
    (tmp_path / "training_history.yaml").write_text("- {torn\n")
    ran = run("doctor", tmp_path)
    assert ran.code == 1
    assert "can be resumed at epoch 2" in ran.out
    assert "leftover" in ran.out
    assert "1 line is torn" in ran.out
    assert run("doctor", tmp_path, "--fix").code == 0
    assert run("doctor", tmp_path).code == 0
    assert json.loads(run("doctor", tmp_path, "--format", "json").out)["newest"]["resumable"]
    (newest / "optimizer.pt").write_bytes(bytes((newest / "optimizer.pt").stat().st_size))
    ran = run("doctor", tmp_path, "--format", "json")
    assert ran.code == 1
    found = json.loads(ran.out)
    assert found["newest"]["resumable"] is False
    assert [each["kind"] for each in found["findings"]] == ["newest"]


def test_doctor_leaves_a_young_stage_of_another_machine_unless_it_is_named(
    run: Run, tmp_path: Path
) -> None:
    write_sample(tmp_path, epoch=1)
    stage = tmp_path / ".staging-00000000-1-1-00000000"
    stage.mkdir()
    (stage / "model.safetensors").write_bytes(bytes(1000))
    two_hours_ago = time.time() - 2 * 3600
    os.utime(stage, (two_hours_ago, two_hours_ago))
    ran = run("doctor", tmp_path, "--fix")
    assert "stage, 1.0 kB, 2.0 h old" in " ".join(ran.out.split())
    assert ran.code == 1
    assert "may be at work" in ran.out
    assert stage.is_dir()
    ran = run("doctor", tmp_path, "--clear", stage.name)
    assert ran.code == 0
    assert "1.0 kB of leftovers cleared" in ran.err
    assert not stage.exists()


def test_doctor_clears_nothing_that_is_no_leftover_or_at_work(run: Run, tmp_path: Path) -> None:
    path = write_sample(tmp_path, epoch=1)
    mine = tmp_path / f".staging-{this_process().name()}"
    mine.mkdir()
    for name, why in ((path.name, "is no leftover"), ("..", "is no"), (mine.name, "is at work")):
        ran = run("doctor", tmp_path, "--fix", "--clear", name)
        assert ran.code == 2
        assert why in ran.err
    assert path.is_dir()
    assert mine.is_dir()


def test_doctor_says_that_beside_a_newer_version_nothing_can_be_resumed(
    run: Run, tmp_path: Path
) -> None:
    write_sample(tmp_path, epoch=1)
    newer = write_sample(tmp_path, epoch=2)
    document = json.loads((newer / "meta.json").read_bytes())
    (newer / "meta.json").write_bytes(seal({**document, "format_version": "2.0"}))
    ran = run("doctor", tmp_path, "--format", "json")
    assert ran.code == 1
    found = json.loads(ran.out)["newest"]
    assert found["resumable"] is False
    assert "newer version" in found["message"]


def test_doctor_finds_a_newest_without_optimizer(run: Run, tmp_path: Path) -> None:
    strip(write_sample(tmp_path, epoch=1))
    ran = run("doctor", tmp_path)
    assert ran.code == 1
    assert "no training can be resumed from it" in ran.out


def test_doctor_finds_nothing_to_resume_where_there_is_no_checkpoint(
    run: Run, tmp_path: Path
) -> None:
    ran = run("doctor", tmp_path)
    assert (ran.code, ran.out) == (1, "there is no checkpoint that can be read\n")
    write_sample(tmp_path, epoch=1)
    assert run("doctor", tmp_path).code == 0


def test_doctor_finds_what_is_left_of_a_checkpoint_and_not_what_is_none(
    run: Run, tmp_path: Path
) -> None:
    write_sample(tmp_path, epoch=1)
    half = tmp_path / "epoch-0002-half"
    half.mkdir()
    (half / "optimizer.pt").write_bytes(bytes(2_000_000))
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "loss.png").write_bytes(b"x")
    ran = run("doctor", tmp_path, "--format", "json")
    assert ran.code == 1
    (found,) = json.loads(ran.out)["findings"]
    assert (found["kind"], found["path"]) == ("remains", str(half))
    assert "2.0 MB, 0.0 h old" in found["message"]
    command = f"prune {tmp_path} --remove epoch-0002-half --apply"
    assert found["message"].endswith(f"; smartcash-format {command} removes it")
    assert run(*command.split()).code == 0
    assert not half.exists()


def test_doctor_keeps_events_of_a_newer_version(run: Run, tmp_path: Path) -> None:
    write_sample(tmp_path, epoch=1)
    history = tmp_path / "training_history.yaml"
    history.write_text('- {"event": "merge", "what": 1}\n')
    assert run("doctor", tmp_path, "--fix").code == 0
    assert history.read_text() == '- {"event": "merge", "what": 1}\n'


def test_a_history_says_what_helps_against_each_line_that_it_cannot_read(
    run: Run, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, 1)
    line = '- {"event": "merge", "at": "2026-01-31T12:00:00.000000Z"}\n'
    (tmp_path / "training_history.yaml").write_text(line)
    err = run("history", tmp_path).err
    assert "1 line of the history is unknown to this version: a newer smartcash-format" in err
    assert "doctor" not in err
    (tmp_path / "training_history.yaml").write_text(line + "- {torn\n")
    assert "1 line of the history is torn: smartcash-format doctor" in run("history", tmp_path).err


def test_doctor_says_why_the_newest_cannot_be_resumed(run: Run, tmp_path: Path) -> None:
    first = write_sample(tmp_path, epoch=1)
    newest = strip(write_sample(tmp_path, epoch=2)).path
    said = f"the newest, {newest.name}, has weights but no optimizer state: it cannot be resumed"
    assert said in " ".join(run("doctor", tmp_path).out.split())
    weights = newest / "model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    said = f"the newest, {newest.name}, cannot be loaded: model.safetensors: "
    assert said in " ".join(run("doctor", tmp_path).out.split())
    for path in (newest, first):
        (path / "meta.json").write_text("{")
    assert "there is no checkpoint that can be read" in run("doctor", tmp_path).out


def test_doctor_offers_to_mend_only_what_it_can(run: Run, tmp_path: Path) -> None:
    write_sample(tmp_path, epoch=1)
    (tmp_path / "old.pth").write_bytes(b"")
    assert run("doctor", tmp_path).err == ""
    (tmp_path / "training_history.yaml").write_text("- {torn\n")
    assert "nothing was changed; --fix mends 1 of these" in run("doctor", tmp_path).err
    assert "nothing was changed" not in run("doctor", tmp_path, "--fix").err
