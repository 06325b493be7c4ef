"""What `convert`, `export`, `share` and `receive` made, as CSV, as paths and in JSON."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from uuid import uuid4

import pytest

from smartcash_format.disk.derive import derive
from smartcash_format.store.catalog import scan
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Ran, Run

TELLING = "/srv/someone/x"


def rows(ran: Ran) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ran.out)))


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Two files of the same bytes, and between them one that is no torch file."""
    import torch

    place = tmp_path / "old"
    place.mkdir()
    value = {"model_state_dict": {"w": torch.ones(3)}, "epoch": 4, 1: "one", "1": "another"}
    torch.save(value, place / "a.pt")
    (place / "b.pt").write_bytes(b"not a torch file")
    (place / "c.pt").write_bytes((place / "a.pt").read_bytes())
    return place


@pytest.fixture
def telling(tmp_path: Path) -> Path:
    """A checkpoint with a path of somebody in its config."""
    return derive(
        write_sample(tmp_path / "plain", epoch=3),
        tmp_path / "telling",
        checkpoint_id=str(uuid4()),
        resume_state=True,
        change=lambda meta: meta.model_copy(update={"config": {"data": TELLING}}),
    ).path


@pytest.fixture
def others(tmp_path: Path) -> list[Path]:
    """Three checkpoints by name, the second with weights that were cut."""
    paths = sorted(write_sample(tmp_path / "others", epoch=epoch) for epoch in (1, 2, 3))
    (paths[1] / "model.safetensors").write_bytes(b"short")
    return paths


@pytest.mark.torch
def test_convert_has_a_row_for_each_source_that_says_what_became_of_it(
    run: Run, tmp_path: Path, sources: Path
) -> None:
    arguments = ("convert", sources, "-o", tmp_path / "root", "--format", "csv")
    planned = rows(run(*arguments, "--dry-run"))
    assert [(row["outcome"], row["path"]) for row in planned] == [
        ("planned", ""), ("failed", ""), ("planned", "")
    ]  # fmt: skip
    ran = run(*arguments)
    assert ran.code == 3
    first, refused, again = rows(ran)
    (made,) = map(str, scan(tmp_path / "root"))
    assert (first["outcome"], first["path"], first["tensors"]) == ("converted", made, "1")
    assert first["dropped"] == "1: another value has this name"
    assert not first["reason"]
    assert (again["outcome"], again["path"]) == ("already", made)
    assert [row["source"] for row in (first, refused, again)] == [
        str(sources / name) for name in ("a.pt", "b.pt", "c.pt")
    ]
    assert (refused["outcome"], refused["path"], refused["size_bytes"]) == ("failed", "", "")
    assert refused["reason"] in ran.err


@pytest.mark.torch
def test_convert_has_the_path_of_each_checkpoint_once_and_says_the_rest_beside_it(
    run: Run, tmp_path: Path, sources: Path
) -> None:
    arguments = ("convert", sources, "-o", tmp_path / "root", "--format", "paths")
    assert run(*arguments, "--dry-run").out == ""
    ran = run(*arguments)
    (made,) = scan(tmp_path / "root")
    assert (ran.code, ran.out) == (3, f"{made}\n")
    assert f"{sources / 'b.pt'}: b.pt was not read" in ran.err
    assert f"{sources / 'a.pt'}: dropped: 1: another value has this name\n" in ran.err
    again = run(*arguments)
    assert (again.code, again.out) == (3, f"{made}\n")


@pytest.mark.torch
def test_the_document_of_convert_has_what_failed(run: Run, tmp_path: Path, sources: Path) -> None:
    nowhere = tmp_path / "nowhere.pt"
    ran = run("convert", sources, nowhere, "-o", tmp_path / "root", "--format", "json")
    document = json.loads(ran.out)
    assert ran.code == 3
    assert [Path(each["source"]).name for each in document["conversions"]] == ["a.pt", "c.pt"]
    refused, missing = document["failed"]
    assert refused.keys() == {"source", "reason"}
    assert refused["source"] == str(sources / "b.pt")
    assert refused["reason"].startswith("b.pt was not read: 'no torch file'")
    assert missing["source"] == str(nowhere)
    assert "no such file or directory" in missing["reason"]


@pytest.mark.torch
def test_export_has_a_row_or_the_path_of_its_file(run: Run, tmp_path: Path) -> None:
    checkpoint = write_sample(tmp_path / "root", epoch=1)
    file = tmp_path / "model.safetensors"
    (row,) = rows(run("export", checkpoint, "-o", file, "--format", "csv"))
    assert (row["path"], row["size_bytes"]) == (str(file), str(file.stat().st_size))
    ran = run("export", checkpoint, "-o", file, "--force", "--format", "paths")
    assert (ran.code, ran.out, ran.err) == (0, f"{file}\n", "")


@pytest.mark.torch
def test_what_a_file_holds_otherwise_is_said_beside_its_path(run: Run, tmp_path: Path) -> None:
    from torch import nn

    from smartcash_format import save_checkpoint

    tied = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)])
    tied[1].weight = tied[0].weight
    checkpoint = save_checkpoint(tmp_path / "tied", tied, epoch=1)["path"]
    file = tmp_path / "model.safetensors"
    ran = run("export", checkpoint, "-o", file, "--format", "paths")
    assert ran.out == f"{file}\n"
    assert ran.err.startswith("smartcash-format: note: ")
    (row,) = rows(run("export", checkpoint, "-o", file, "--force", "--format", "csv"))
    assert row["notes"] in ran.err


@pytest.mark.parametrize(("clean", "outcome"), [([], "there"), (["--clean"], "removed")])
def test_share_has_a_row_for_each_finding(
    run: Run, tmp_path: Path, telling: Path, clean: list[str], outcome: str
) -> None:
    ran = run("share", telling, "-o", tmp_path / "out", *clean, "--format", "csv")
    (made,) = map(str, scan(tmp_path / "out"))
    assert rows(ran) == [
        {"path": made, "outcome": outcome, "where": "config.data", "kind": "path", "text": TELLING}
    ]
    assert ran.code == (0 if clean else 1)


def test_share_has_a_row_for_a_checkpoint_in_which_nothing_is_found(
    run: Run, tmp_path: Path
) -> None:
    ran = run("share", write_sample(tmp_path, epoch=1), "-o", tmp_path / "out", "--format", "csv")
    (made,) = map(str, scan(tmp_path / "out"))
    assert rows(ran) == [{"path": made, "outcome": "", "where": "", "kind": "", "text": ""}]


def test_share_has_the_path_and_says_beside_it_what_is_still_there(
    run: Run, tmp_path: Path, telling: Path
) -> None:
    ran = run("share", telling, "-o", tmp_path / "out", "--format", "paths")
    (made,) = scan(tmp_path / "out")
    assert (ran.code, ran.out) == (1, f"{made}\n")
    assert ran.err.startswith(f"smartcash-format: {made}: 1 finding still there: ")
    ran = run("share", telling, "-o", tmp_path / "clean", "--clean", "--format", "paths")
    (made,) = scan(tmp_path / "clean")
    assert (ran.code, ran.out, ran.err) == (0, f"{made}\n", "")


def test_receive_has_a_row_for_each_checkpoint_that_says_what_became_of_it(
    run: Run, tmp_path: Path, others: list[Path]
) -> None:
    arguments = ("receive", tmp_path / "others", "-o", tmp_path / "root", "--format", "csv")
    ran = run(*arguments)
    found = rows(ran)
    assert ran.code == 3
    assert [row["source"] for row in found] == [*map(str, others)]
    assert [row["outcome"] for row in found] == ["received", "failed", "received"]
    taken = [str(tmp_path / "root" / path.name) for path in others]
    assert [row["path"] for row in found] == [taken[0], "", taken[2]]
    assert found[1]["reason"] in ran.err
    assert "was not received" in found[1]["reason"]
    assert [row["outcome"] for row in rows(run(*arguments))] == ["already", "failed", "already"]


def test_receive_has_the_path_of_each_that_is_there(
    run: Run, tmp_path: Path, others: list[Path]
) -> None:
    arguments = ("receive", tmp_path / "others", "-o", tmp_path / "root", "--format", "paths")
    there = "".join(f"{tmp_path / 'root' / path.name}\n" for path in (others[0], others[2]))
    ran = run(*arguments)
    assert (ran.code, ran.out) == (3, there)
    assert f"{others[1].name} was not received" in ran.err
    assert run(*arguments).out == there


def test_the_document_of_receive_has_what_failed(
    run: Run, tmp_path: Path, others: list[Path]
) -> None:
    ran = run("receive", tmp_path / "others", "-o", tmp_path / "root", "--format", "json")
    document = json.loads(ran.out)
    assert [each["source"] for each in document["received"]] == [str(others[0]), str(others[2])]
    (failed,) = document["failed"]
    assert failed.keys() == {"source", "reason"}
    assert failed["source"] == str(others[1])
    assert "was not received" in failed["reason"]
