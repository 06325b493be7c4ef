"""What `show`, `tensors`, `diff` and `doctor` print as CSV and as paths."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from smartcash_format.cli.commands import diff
from smartcash_format.spec.diff import Diff, TensorChange, WeightsDiff
from smartcash_format.spec.tensors import TensorRecord
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Ran, Run
from tests.store.checkpoints import write_checkpoint, write_weighed

DIGEST = f"blake3:{'ab' * 32}"


def rows(ran: Ran) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ran.out)))


def test_show_has_a_row_for_each_value_and_a_path_for_each_file(run: Run, tmp_path: Path) -> None:
    config: dict[str, object] = {
        "model": {"depth": 3, "layers": ["a", "=b"]},
        "empty": {},
        "none": [],
        "x": None,
    }
    path = write_checkpoint(
        tmp_path, 1, metrics={"val/map": -0.5}, tags=["x"], config=config, is_best=True
    )
    values = {row["field"]: row["value"] for row in rows(run("show", path, "--format", "csv"))}
    assert values["epoch"] == "1"
    assert values["is_best"] == "true"
    assert values["metrics['val/map']"] == "-0.5"
    assert values["tags[0]"] == "x"
    assert {name: text for name, text in values.items() if name.startswith("config")} == {
        "config.model.depth": "3",
        "config.model.layers[0]": "a",
        "config.model.layers[1]": "'=b",
        "config.empty": "{}",
        "config.none": "[]",
        "config.x": "",
    }
    (path / "notes.md").write_text("mine")
    listed = json.loads((path / "meta.json").read_bytes())["files"]
    ran = run("show", path, "--format", "paths")
    assert ran.code == 0
    assert sorted(ran.out.splitlines()) == sorted(
        str(path / name) for name in ["meta.json", *listed]
    )


def test_tensors_has_a_path_for_each_file_that_holds_one(run: Run, tmp_path: Path) -> None:
    path = write_weighed(tmp_path, 1, {"stem.weight": 1.0, "head.weight": 2.0})
    ran = run("tensors", path, "--format", "paths")
    assert (ran.code, ran.out) == (0, f"{path / 'model.safetensors'}\n")
    assert run("tensors", write_weighed(tmp_path, 2, {}), "--format", "paths").out == ""


def test_diff_has_a_row_for_each_difference(run: Run, tmp_path: Path) -> None:
    before = write_weighed(
        tmp_path, 1, {"same": 1.0, "other": 1.0, "gone": 3.0},
        metrics={"map": 0.25, "old": 1.0}, config={"lr": 0.1, "model": {"depth": 3}},
    )  # fmt: skip
    after = write_weighed(
        tmp_path, 2, {"same": 1.0, "other": 2.0, "come": 4.0},
        metrics={"map": 0.5, "new": 2.0}, config={"lr": 0.1, "data": {"size": [3, "é"]}},
    )  # fmt: skip
    ran = run("diff", before, after, "--format", "csv")
    assert ran.code == 1
    found = {(row["part"], row["set"], row["name"]): row for row in rows(ran)}
    assert len(found) == len(rows(ran))
    assert found.keys() >= {
        ("fields", "", "epoch"),
        ("config", "", "model"),
        ("config", "", "data"),
        ("metrics", "", "map"),
        ("metrics", "", "old"),
        ("metrics", "", "new"),
        ("weights", "model", "other"),
        ("weights", "model", "gone"),
        ("weights", "model", "come"),
    }
    assert {part for part, _, _ in found} == {"fields", "config", "metrics", "weights"}

    def told(*key: str) -> tuple[str, ...]:
        row = next(row for one, row in found.items() if one == key)
        return tuple(row[name] for name in ("kind", "before", "after", "delta"))

    assert told("fields", "", "epoch") == ("changed", "1", "2", "")
    assert told("config", "", "model") == ("removed", '{"depth": 3}', "", "")
    assert told("config", "", "data") == ("added", "", '{"size": [3, "\\u00e9"]}', "")
    assert told("metrics", "", "map") == ("changed", "0.25", "0.5", "0.25")
    assert told("metrics", "", "old") == ("removed", "1.0", "", "")
    assert told("metrics", "", "new") == ("added", "", "2.0", "")
    assert told("weights", "model", "gone") == ("removed", "", "", "")
    assert told("weights", "model", "come") == ("added", "", "", "")
    kind, one, other, _ = told("weights", "model", "other")
    assert kind == "changed"
    assert one != other
    assert {one[:7], other[:7]} == {"blake3:"}


def test_each_kind_of_change_of_a_tensor_is_told_by_what_differs(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(dtype: str, *shape: int) -> TensorRecord:
        return TensorRecord(dtype=dtype, shape=[*shape], file="model.safetensors", digest=DIGEST)

    both = TensorChange(name="w", new_name="v", before=record("F32", 2, 3), after=record("F16"))
    changes = WeightsDiff(
        name="model", verdict="different", renamed=(both,), reshaped=(both,), retyped=(both,),
        unknown=("u",),
    )  # fmt: skip
    tied = WeightsDiff(name="ema", verdict="different", unchanged=2)
    same = WeightsDiff(name="net", verdict="same", unchanged=2)
    monkeypatch.setattr(diff, "compare", lambda *_: Diff(weights=(changes, tied, same)))
    ran = run("diff", tmp_path, tmp_path, "--format", "csv")
    told = [(row["set"], row["kind"], row["before"], row["after"]) for row in rows(ran)]
    assert told == [
        ("model", "unknown", "", ""),
        ("model", "renamed", "w", "v"),
        ("model", "reshaped", "2x3", "scalar"),
        ("model", "retyped", "F32", "F16"),
        ("ema", "different", "", ""),
    ]


def test_diff_has_the_paths_of_both_when_they_differ(run: Run, tmp_path: Path) -> None:
    first, second = write_sample(tmp_path, epoch=1), write_sample(tmp_path, epoch=2)
    ran = run("diff", first, second, "--format", "paths")
    assert (ran.code, ran.out) == (1, f"{first}\n{second}\n")
    ran = run("diff", first, first, "--format", "paths")
    assert (ran.code, ran.out) == (0, "")


@pytest.mark.parametrize("form", ["csv", "paths"])
def test_doctor_has_a_row_or_a_path_for_each_finding(run: Run, tmp_path: Path, form: str) -> None:
    write_sample(tmp_path, epoch=1)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "meta.json").write_text("{")
    (tmp_path / "old.pth").write_bytes(b"")
    (tmp_path / "training_history.yaml").write_text("- {torn\n")
    ran = run("doctor", tmp_path, "--format", form)
    assert (ran.code, ran.err) == (1, "")
    paths = [str(tmp_path / name) for name in ("torn", "", "old.pth")]
    if form == "paths":
        assert ran.out.splitlines() == [path.rstrip("/") for path in paths]
        return
    found = rows(ran)
    assert [row["kind"] for row in found] == ["broken", "history", "legacy"]
    assert [row["path"] for row in found] == [path.rstrip("/") for path in paths]
    assert [row["fixable"] for row in found] == ["false", "true", "false"]
    assert "json-syntax" in found[0]["message"]


@pytest.mark.parametrize("form", ["csv", "paths"])
def test_doctor_says_beside_rows_and_paths_that_nothing_can_be_resumed(
    run: Run, tmp_path: Path, form: str
) -> None:
    ran = run("doctor", tmp_path, "--format", form)
    assert ran.code == 1
    assert ran.err == "smartcash-format: there is no checkpoint that can be read\n"


@pytest.mark.parametrize("asked", [["--sort", "-metrics.z"], ["--where", "metrics.z>0"]])
def test_a_terminal_shows_the_metric_that_is_sorted_or_filtered_by(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setattr("smartcash_format.view.terminal.is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    metrics = {f"a{number}_{'x' * 12}": 0.5 for number in range(9)}
    write_checkpoint(tmp_path, 1, metrics=metrics | {"z": 0.125})
    assert "0.1250" not in run("ls", tmp_path).out
    assert "0.1250" in run("ls", tmp_path, *asked).out
