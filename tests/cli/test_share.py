"""`share` and `receive`: what is found is said by the exit code too."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from smartcash_format.disk.derive import derive
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    made = derive(
        write_sample(tmp_path / "plain", epoch=3),
        tmp_path / "made",
        checkpoint_id=str(uuid4()),
        resume_state=True,
        change=lambda meta: meta.model_copy(update={"config": {"data": "/srv/someone/x"}}),
    )
    return made.path


def test_a_finding_that_stays_is_exit_1_and_one_that_goes_is_0(
    run: Run, tmp_path: Path, checkpoint: Path
) -> None:
    ran = run("share", checkpoint, "-o", tmp_path / "out")
    assert ran.code == 1
    assert "path" in ran.out
    assert "still there: --clean removes it" in ran.out
    assert "left out: optimizer.pt" in ran.out
    ran = run("share", checkpoint, "-o", tmp_path / "clean", "--clean", "--format", "json")
    document = json.loads(ran.out)
    assert (ran.code, document["kind"], document["removed"]) == (0, "smartcash-format/share", True)
    finding = {"where": "config.data", "kind": "path", "text": "/srv/someone/x"}
    assert document["findings"] == [finding]


def test_receive_says_what_is_there_and_what_is_not_taken(
    run: Run, tmp_path: Path, checkpoint: Path
) -> None:
    run("share", checkpoint, "-o", tmp_path / "out", "--clean")
    arguments = ("receive", tmp_path / "out", "-o", tmp_path / "root")
    assert run(*arguments).out.endswith(": intact\n")
    assert run(*arguments).out.endswith(": there already\n")
    document = json.loads(run(*arguments, "--format", "json").out)
    assert document["received"][0]["already"] is True
    weights = next((tmp_path / "out").glob("*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    ran = run("receive", tmp_path / "out", "-o", tmp_path / "other")
    assert (ran.code, ran.out) == (3, "")
    assert "was not received" in ran.err
    assert run("receive", tmp_path / "made" / "nowhere", "-o", tmp_path / "root").code == 3


def test_one_that_is_not_what_it_says_keeps_no_other_out(run: Run, tmp_path: Path) -> None:
    paths = [write_sample(tmp_path / "from", epoch=epoch) for epoch in (1, 2, 3)]
    (paths[1] / "model.safetensors").write_bytes(b"short")
    ran = run("receive", tmp_path / "from", "-o", tmp_path / "root")
    assert ran.code == 3
    assert sorted(ran.out.splitlines()) == [
        f"{tmp_path / 'root' / path.name}: intact" for path in sorted([paths[0], paths[2]])
    ]
    (line,) = ran.err.splitlines()
    assert f"{paths[1].name} was not received" in line
    assert not (tmp_path / "root" / paths[1].name).exists()
