"""`prune` removes what is asked for and says what it was not asked for."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from smartcash_format.spec import layout
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run
from tests.store.checkpoints import write_checkpoint

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def three(root: Path) -> list[Path]:
    return [
        write_sample(root, epoch=epoch, saved_at=START + timedelta(minutes=epoch))
        for epoch in (1, 2, 3)
    ]


def test_a_mistyped_metric_removes_nothing_and_names_the_one_that_may_be_meant(
    run: Run, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        write_checkpoint(tmp_path, number, metrics={"val_map": number})
    ran = run("prune", tmp_path, "--keep-last", 1, "--keep-best", "val_mpa:max", "--apply")
    assert ran.code == 0
    assert "no checkpoint has the metric 'val_mpa'; did you mean 'val_map'?" in ran.err
    assert len(CheckpointStore(tmp_path).list()) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("best", "{root}", "--metric", "val_mpa:max"),
        ("ls", "{root}", "--best", "val_mpa:max"),
        ("ls", "{root}", "--where", "metrics.val_mpa>=0"),
        ("best", "{root}", "--where", "epoch>=0", "--where", "metrics.val_mpa>=0"),
        ("validate", "{root}", "--depth", "meta", "--require", "metrics.val_mpa>=0"),
    ],
)
def test_a_mistyped_metric_is_told_wherever_one_is_named(
    run: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    write_checkpoint(tmp_path, 1, metrics={"val_map": 0.5})
    ran = run(*(each.format(root=tmp_path) for each in arguments))
    assert "val_map" in (ran.out + ran.err).partition("did you mean")[2]


def test_a_number_of_best_without_a_metric_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    ran = run("prune", tmp_path, "--best-count", 3)
    assert ran.code == 2
    assert "--keep-best METRIC:MODE" in ran.err


def test_what_cannot_be_read_is_said_to_stay_and_why(run: Run, tmp_path: Path) -> None:
    for name in ("torn", "half"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "meta.json").write_text("{")
    for more in ([], ["--apply"], ["--keep-last", "1", "--format", "paths"]):
        err = run("prune", tmp_path, *more).err
        assert "2 checkpoints cannot be read, which no policy can judge: they stay" in err
        assert f"smartcash-format doctor {tmp_path} says why, --remove NAME removes one" in err
    three(tmp_path)
    shutil.rmtree(tmp_path / "half")
    ran = run("prune", tmp_path, "--keep-last", "1")
    assert "1 checkpoint cannot be read, which no policy can judge: it stays" in ran.err
    shutil.rmtree(tmp_path / "torn")
    assert "cannot be read" not in run("prune", tmp_path, "--keep-last", "1").err


def test_one_is_removed_by_its_name_when_it_is_told_to(run: Run, tmp_path: Path) -> None:
    first, second, third = three(tmp_path)
    ran = run("prune", tmp_path, "--remove", second.name)
    assert ran.code == 0
    assert "nothing was removed; --apply removes 1" in ran.err
    assert second.is_dir()
    ran = run("prune", tmp_path, "--remove", second.name, "--apply", "--format", "json")
    assert ran.code == 0
    plan = json.loads(ran.out)
    assert plan["applied"]["removed"] == [str(second)]
    assert [each["reasons"] for each in plan["decisions"]] == [["asked for by its name"]]
    assert [entry.path for entry in CheckpointStore(tmp_path).list()] == [third, first]
    assert CheckpointStore(tmp_path).events().lines[-1].checkpoints == [second.name]


def test_what_is_broken_or_a_part_goes_by_its_name_alone(run: Run, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1)
    broken = write_checkpoint(tmp_path, 2)
    (broken / "model.safetensors").unlink()
    torn, half = tmp_path / "torn", tmp_path / "half"
    torn.mkdir()
    (torn / "meta.json").write_text("{")
    half.mkdir()
    (half / "optimizer.pt").write_bytes(b"x" * 10)
    names = [each.name for each in (broken, torn, half)]
    asked = [word for name in names for word in ("--remove", name)]
    ran = run("prune", tmp_path, *asked, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert [(row["action"], row["epoch"]) for row in rows] == [("remove", "")] * 3
    ran = run("prune", tmp_path, *asked, "--apply")
    assert (ran.code, "3 removed" in ran.err) == (0, True)
    assert not any((tmp_path / name).exists() for name in names)


def test_what_is_protected_or_the_last_stays_also_by_its_name(run: Run, tmp_path: Path) -> None:
    first, second, third = three(tmp_path)
    CheckpointStore(tmp_path).protect(first, "table 2")
    ran = run("prune", tmp_path, "--remove", first.name, "--remove", third.name, "--apply")
    assert ran.code == 1
    assert "protected: table 2" in ran.out
    assert sorted(map(str, tmp_path.glob("epoch-*"))) == sorted(map(str, [first, second]))
    CheckpointStore(tmp_path).unprotect(first)
    assert run("prune", tmp_path, "--remove", first.name, "--apply").code == 0
    ran = run("prune", tmp_path, "--remove", second.name, "--apply")
    assert ran.code == 1
    assert "the only checkpoint of this root" in ran.out
    assert second.is_dir()


@pytest.mark.parametrize(
    "name",
    ["plots", ".pins", "nothing", "..", ".", "notes.json", "old.pth", layout.HISTORY, "link"],
)
def test_what_is_no_checkpoint_is_not_removed_by_its_name(
    run: Run, tmp_path: Path, name: str
) -> None:
    root = tmp_path / "root"
    path = write_checkpoint(root, 1)
    CheckpointStore(root).protect(path, "why")
    (root / "plots").mkdir()
    for file in ("notes.json", "old.pth", layout.HISTORY):
        (root / file).write_bytes(b"# kept\n")
    (root / "link").symlink_to("notes.json")
    before = sorted(os.listdir(root))
    ran = run("prune", root, "--remove", str(root / name), "--apply")
    assert ran.code == 1
    assert "neither a checkpoint nor a part of one" in ran.err
    assert sorted(os.listdir(root)) == before
    assert (root / layout.HISTORY).read_bytes() == b"# kept\n"


def test_a_name_means_the_one_in_the_root_and_never_a_copy_elsewhere(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(tmp_path / "root")
    three(tmp_path / "copies")
    monkeypatch.chdir(tmp_path / "copies")
    name = min(os.listdir(tmp_path / "root"))
    assert run("prune", tmp_path / "root", "--remove", name, "--apply").code == 0
    assert name not in os.listdir(tmp_path / "root")
    assert name in os.listdir(tmp_path / "copies")
    ran = run("prune", tmp_path / "root", "--remove", name, "--apply")
    assert ran.code == 2
    assert "does not lie in" in ran.err
    assert name in os.listdir(tmp_path / "copies")


def test_a_name_and_a_policy_are_not_mixed(run: Run, tmp_path: Path) -> None:
    ran = run("prune", tmp_path, "--remove", "x", "--keep-last", 1)
    assert ran.code == 2


def test_a_name_that_is_nowhere_leads_to_the_listing_of_the_root_that_was_named(
    run: Run, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "weights", 1)
    ran = run("prune", tmp_path / "weights", "--remove", "nope")
    assert ran.code == 1
    assert ran.err.endswith(f"smartcash-format ls {tmp_path / 'weights'} shows what is there\n")


@pytest.mark.parametrize("command", ["show", "tensors"])
def test_a_root_where_a_checkpoint_is_asked_for_is_told_from_half_a_copy(
    run: Run, tmp_path: Path, command: str
) -> None:
    root = tmp_path / "my weights"
    write_checkpoint(root, 1)
    ran = run(command, root)
    assert ran.code == 3
    assert "it is no checkpoint, but a directory of checkpoints" in ran.err
    assert ran.err.endswith(f"-> smartcash-format ls '{root}'\n")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.safetensors").write_bytes(b"")
    ran = run(command, tmp_path / "half")
    assert "one whose copy is not complete" in ran.err
    assert ran.err.endswith(
        "-> name a checkpoint: smartcash-format ls ROOT shows those of a root\n"
    )


def test_a_where_that_something_meets_says_nothing_of_metrics_that_few_have(
    run: Run, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, 1, metrics={"val_map": 1})
    write_checkpoint(tmp_path, 2, metrics={})
    assert run("ls", tmp_path, "--where", "metrics.val_map>=0").err == ""
    assert run("ls", tmp_path, "--where", "metrics.val_map>=2").err == ""


def test_many_flagged_ones_are_warned_of_with_the_options_that_keep_fewer(
    run: Run, tmp_path: Path
) -> None:
    for number in range(1, 8):
        write_checkpoint(tmp_path, number, is_best=True, metrics={"val_map": number / 10})
    ran = run("prune", tmp_path, "--format", "json")
    said = "7 checkpoints are flagged best and stay; --keep-best METRIC:MODE or --keep-last N keeps"
    assert json.loads(ran.out)["warnings"] == [f"{said} fewer"]
    assert f"{said} fewer" in ran.err
    assert "keep_best" not in ran.err
    assert "7 checkpoints" not in run("prune", tmp_path, "--keep-best", "val_map:max").err


@pytest.fixture
def immovable(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of directories that the system does not let be renamed."""
    names: set[str] = set()
    rename = os.rename

    def refuse(source: str | Path, target: str | Path) -> None:
        if Path(source).name in names:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    return names


@pytest.mark.parametrize("by_name", [True, False])
def test_what_the_system_does_not_let_go_is_told_and_keeps_no_other_from_going(
    run: Run, tmp_path: Path, immovable: set[str], *, by_name: bool
) -> None:
    first, second, third = three(tmp_path)
    immovable.add(first.name)
    asked = ["--remove", first.name, "--remove", second.name] if by_name else ["--keep-last", "1"]
    ran = run("prune", tmp_path, *asked, "--apply", "--format", "json")
    assert ran.code == 3
    assert json.loads(ran.out)["applied"]["removed"] == [str(second)]
    assert f"{first.name} was not removed: Permission denied" in ran.err
    assert "1 checkpoint could not be removed or stripped; check who may" in ran.err
    assert sorted(tmp_path.glob("epoch-*")) == sorted([first, third])


def test_a_name_with_a_line_break_keeps_nothing_else_from_being_said(
    run: Run, tmp_path: Path, immovable: set[str]
) -> None:
    first, second, _ = three(tmp_path)
    first.rename(tmp_path / "line\nbreak")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "meta.json").write_text("{")
    immovable.add(second.name)
    ran = run("prune", tmp_path, "--keep-last", 1, "--apply", "--format", "paths")
    assert ran.code == 2
    assert f"{second.name} was not removed: Permission denied" in ran.err
    assert "1 removed" in ran.err
    assert "1 checkpoint cannot be read" in ran.err
    (tmp_path / "broken\nname").mkdir()
    (tmp_path / "broken\nname" / "meta.json").write_text("{")
    ran = run("prune", tmp_path, "--remove", "broken\nname", "--apply", "--format", "paths")
    assert (ran.code, "1 removed" in ran.err) == (2, True)


def test_one_that_is_protected_while_it_goes_stays_and_another_that_is_gone_is_no_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = three(tmp_path)
    remove = CheckpointStore.remove

    def late(store: CheckpointStore, path: Path) -> int:
        if path == first:
            shutil.rmtree(first)
        else:
            store.protect(path, "table 2")
        return remove(store, path)

    monkeypatch.setattr(CheckpointStore, "remove", late)
    ran = run("prune", tmp_path, "--remove", first.name, "--remove", second.name, "--apply")
    assert ran.code == 1
    assert f"{second.name} was not removed: protected: table 2" in ran.err
    assert "0 removed" in ran.err
    assert sorted(tmp_path.glob("epoch-*")) == [second, third]


def test_nothing_to_remove_is_no_offer_to_apply(run: Run, tmp_path: Path) -> None:
    three(tmp_path)
    assert run("prune", tmp_path, "--keep-last", 3).err == ""


def test_a_number_of_best_is_one_or_more(run: Run, tmp_path: Path) -> None:
    three(tmp_path)
    asked = ["prune", tmp_path, "--keep-best", "val_loss:min", "--best-count"]
    assert [run(*asked, count).code for count in (0, 1)] == [2, 0]


def test_the_epoch_of_what_is_no_checkpoint_is_a_dash(run: Run, tmp_path: Path) -> None:
    first, *_ = three(tmp_path)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "meta.json").write_text("{")
    out = run("prune", tmp_path, "--remove", first.name, "--remove", "torn").out
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [row[1:3] for row in rows] == [[first.name, "1"], ["torn", "-"]]
