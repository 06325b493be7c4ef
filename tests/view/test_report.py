"""The report's file: what stands in it, how large it gets, and that nothing in it can run."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk.publish import remove
from smartcash_format.manager.reader import CheckpointReader
from smartcash_format.spec.tensors import TensorRecord
from smartcash_format.store import lineage
from smartcash_format.store.catalog import merge, scan
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.entry import Entry
from smartcash_format.store.history import History, read_history
from smartcash_format.view import report
from smartcash_format.view.report import PAGE_BYTES, write_report
from tests.processes import run_python
from tests.store.checkpoints import (
    OTHER_RUN,
    RUN,
    build_meta,
    identifier,
    write_checkpoint,
    write_tensors,
    write_weighed,
)
from tests.view.roots import SCRIPT, hostile, resumed_run

NOW = datetime(2026, 2, 1, tzinfo=UTC)


def page_of(*roots: Path) -> str:
    listing = merge(scan(root) for root in roots)
    path = roots[0].parent / "report.html"
    written = write_report(path, listing, now=NOW, title="a root")
    assert written.size_bytes == path.stat().st_size
    return path.read_text(encoding="utf-8")


def data_of(page: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert match is not None
    found = json.loads(match[1])
    assert isinstance(found, dict)
    return found


def column(data: dict[str, Any], name: str) -> list[Any]:
    place = data["keys"].index(name)
    return [row[place] for row in data["rows"]]


def test_the_answer_stands_in_the_page_before_any_script_runs(tmp_path: Path) -> None:
    page = page_of(resumed_run(tmp_path / "root"))
    assert 'Use <span id="answer-name">epoch-0008-' in page
    assert "val_loss 0.2400; smaller is better." in page
    assert page.index('id="answer"') < page.index('id="curves"') < page.index("<script")


def test_a_resumed_run_is_a_branch_from_the_checkpoint_that_it_left(tmp_path: Path) -> None:
    data = data_of(page_of(resumed_run(tmp_path / "root")))
    first, second = data["branches"]
    assert first["fork"] is None
    assert column(data, "epoch")[second["fork"]] == 4
    assert second["label"] == "run 22222222, from epoch 4"
    assert column(data, "branch") == [1] * 4 + [0] * 8


def test_values_that_are_no_numbers_and_absent_ones_are_told_apart(tmp_path: Path) -> None:
    data = data_of(page_of(resumed_run(tmp_path / "root")))
    assert data["metrics"][0] == "val_loss"  # what decides comes first
    late = data["metrics"].index("val/late")
    values = column(data, "values")
    assert values[-2][0] == "NaN"
    assert values[-1][late:] == []
    assert values[0][late] == 8 / 12


def test_what_people_choose_by_comes_before_what_decides_nothing(tmp_path: Path) -> None:
    names = ("epoch_time", "grad_norm", "lr", "train_loss", "val_loss", "val_map")
    write_checkpoint(tmp_path / "root", 1, metrics=dict.fromkeys(names, 0.5))
    data = data_of(page_of(tmp_path / "root"))
    assert data["metrics"] == [
        "val_map", "val_loss", "train_loss", "epoch_time", "grad_norm", "lr"
    ]  # fmt: skip
    assert data["modes"] == ["max", "min", "min", None, None, None]


def test_several_roots_are_told_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        resumed_run(tmp_path / name, 3)
    data = data_of(page_of(tmp_path / "one", tmp_path / "two"))
    labels = {branch["label"].split(":")[0] for branch in data["branches"]}
    assert labels == {"one", "two"}


@pytest.mark.attack("move", "scripts and markup for a report", "text")
def test_hostile_texts_stay_data(tmp_path: Path) -> None:
    page = page_of(hostile(tmp_path / "root"))
    assert SCRIPT not in page
    assert page.count("<script") == page.count("</script>") == 7
    assert "<img" not in page
    data = data_of(page)
    assert SCRIPT in data["metrics"]
    assert SCRIPT in data["texts"]
    assert max(len(text) for pair in data["pairs"] for text in pair) <= 200


def test_what_is_vendored_is_what_was_published() -> None:
    vendor = Path(report.__file__).parent / "vendor"
    pinned = re.findall(r"^    ([0-9a-f]{64})  (\S+)$", (vendor / "README.md").read_text(), re.M)
    assert {name for _, name in pinned} == {each.name for each in vendor.glob("uPlot*")}
    for digest, name in pinned:
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest


def test_what_may_run_is_named_by_its_digest(tmp_path: Path) -> None:
    page = page_of(resumed_run(tmp_path / "root", 3))
    match = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert match is not None
    policy = match[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        stated = re.search(rf"{directive}([^;]*);", policy)
        assert stated is not None
        bodies = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(body.encode()).digest()) for body in bodies]
        assert stated[1].split() == [f"'sha256-{digest.decode()}'" for digest in digests]
    assert not re.search(r"""<[^>]+\son[a-z]+=|<[^>]+\sstyle=|(src|href)=["']?http""", page)


@pytest.mark.parametrize("metrics", [{}, {"val_loss": math.nan}, {"n": 3}])
def test_one_checkpoint_makes_a_report_whatever_it_measured(
    tmp_path: Path, metrics: dict[str, float]
) -> None:
    write_checkpoint(tmp_path / "root", 1, metrics=metrics)
    data = data_of(page_of(tmp_path / "root"))
    assert data["answer"]["row"] == 0
    assert data["metrics"] == list(metrics)


def test_an_empty_or_missing_root_makes_a_report_that_says_so(tmp_path: Path) -> None:
    page = page_of(tmp_path / "nowhere")
    assert "There is no checkpoint here." in page
    assert data_of(page)["rows"] == []


def test_what_cannot_be_read_is_listed_with_its_reason(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "root", 1)
    (path / "model.safetensors").unlink()
    ((where, reason),) = data_of(page_of(tmp_path / "root"))["broken"]
    assert where == str(path)
    assert "file-missing" in reason


def test_sixty_checkpoints_with_much_to_say_stay_below_half_a_megabyte(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(1, 61):
        write_weighed(
            root,
            number,
            {f"blocks.{i}.attention.weight": (1.0 + number * i / 7, number) for i in range(36)},
            parent_id=identifier(number - 1),
            metrics={f"metrics/some-name-{i}(B)": 1 / (number + i) for i in range(24)},
            config={f"train.section.key-{i}": f"{number}-{i}" * 9 for i in range(70)},
        )
    page = page_of(root)
    assert (tmp_path / "report.html").stat().st_size <= PAGE_BYTES
    assert "blocks.35.attention" in page
    data = data_of(page)
    assert len(data["rows"]) == 60
    assert data["left_out"].startswith("To keep this page small: ")


@pytest.mark.no_cover
@pytest.mark.parametrize("text", ["<&>" * 100, "\u8a9e" * 60])
def test_five_hundred_checkpoints_stay_below_half_a_megabyte(tmp_path: Path, text: str) -> None:
    for number in range(500):
        write_checkpoint(
            tmp_path / "root",
            number,
            metrics={f"{text[:60]}/{i}": number / (i + 3) for i in range(30)},
            tags=[f"tag-{number}"],
            config={f"key-{i}": f"{number}-{i}{text}" for i in range(30)},
        )
    page = page_of(tmp_path / "root")
    assert (tmp_path / "report.html").stat().st_size <= PAGE_BYTES
    data = data_of(page)
    assert len(data["rows"]) == 500
    assert data["left_out"]


def test_a_page_that_cannot_be_small_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PAGE_BYTES", 1_000)
    data = data_of(page_of(resumed_run(tmp_path / "root", 3)))
    assert data["left_out"].endswith("Even so it is large: names or paths are very long.")


def config_lines(root: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The lines of the two configs of a root."""
    data = data_of(page_of(root))
    one, other = (
        [tuple(data["pairs"][i]) for i in data["configs"][number]]
        for number in column(data, "config")
    )
    return one, other


@pytest.mark.parametrize(
    "config",
    [
        lambda n: {f"key-{i}": i if i < 130 else n for i in range(140)},
        lambda n: {"classes": [f"a long name of class {i}" for i in range(20)] + [str(n)]},
        lambda n: {"text": "y" * 10_000 + str(n)},
        lambda n: {"y" * 300 + str(n): 1},
        lambda n: {"a.b": n, "a": {"b": 2}},
        lambda n: {"number": n if n == 1 else "1"},
    ],
    ids=["lines", "a list", "a text", "a key", "a dotted key", "a type"],
)
def test_configs_that_differ_beyond_what_is_shown_are_seen_to_differ(
    tmp_path: Path, config: Callable[[int], dict[str, Any]]
) -> None:
    for number in (1, 2):
        write_checkpoint(tmp_path / "root", number, config=config(number))
    one, other = config_lines(tmp_path / "root")
    assert dict(one) != dict(other)
    assert len(dict(one)) == len(one)
    assert all(len(text) <= 200 for line in one for text in line)


def test_which_checkpoints_have_the_same_weights_is_told_of_all(tmp_path: Path) -> None:
    root = tmp_path / "root"
    sets = [build_meta(1).weights, build_meta(1).weights]
    other = sets[0]["model"].model_copy(update={"weights_digest": "blake3:" + "cd" * 32})
    for number, weights in enumerate([*sets, {"model": other}], 1):
        write_checkpoint(root, number, weights=weights)
    data = data_of(page_of(root))
    newest, second, first = column(data, "weights")
    assert second == first != newest
    assert set(data["weights"]) == {"blake3"}


def test_copies_are_told_from_other_saves(tmp_path: Path) -> None:
    for name in ("run", "drive"):
        write_checkpoint(tmp_path / name, 1)
    write_checkpoint(tmp_path / "run", 2)
    write_checkpoint(tmp_path / "run", 3, derived_from=identifier(2))
    data = data_of(page_of(tmp_path / "run", tmp_path / "drive"))
    saves = column(data, "save")
    assert saves[0] == saves[1]
    assert saves[2] == saves[3] != saves[0]


def test_a_shape_beyond_counting_stops_no_report(tmp_path: Path) -> None:
    record = TensorRecord(dtype="F32", shape=[2**62] * 20, file="model.safetensors",
                          digest="blake3:" + "ab" * 32)  # fmt: skip
    write_tensors(tmp_path / "root", 1, {"huge.w": record, "none.w": record})
    assert "huge.w: F32" in page_of(tmp_path / "root")


def test_a_manager_reports_by_its_monitor(tmp_path: Path) -> None:
    root = resumed_run(tmp_path / "root")
    reader = CheckpointReader(root, monitor="metrics/mAP50-95(B)", mode="max")
    path = reader.report(tmp_path / "out.html")
    assert path == tmp_path / "out.html"
    assert "metrics/mAP50-95(B) 0.8889; larger is better." in path.read_text(encoding="utf-8")
    assert {each.name for each in tmp_path.iterdir()} == {"root", "out.html"}


def test_a_report_that_cannot_be_written_raises_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        CheckpointReader(tmp_path).report(tmp_path / "nowhere" / "out.html")


def test_a_report_goes_where_a_link_leads_and_replaces_plain_files_alone(tmp_path: Path) -> None:
    root = resumed_run(tmp_path / "root", 3)
    (tmp_path / "real.html").write_text("earlier")
    (tmp_path / "link.html").symlink_to("real.html")
    CheckpointReader(root).report(tmp_path / "link.html")
    assert (tmp_path / "link.html").is_symlink()
    assert "<!doctype html>" in (tmp_path / "real.html").read_text(encoding="utf-8")
    os.mkfifo(tmp_path / "pipe")
    for odd in (tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match="not a plain file; name another"):
            CheckpointReader(root).report(odd)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_writing_a_report_loads_neither_torch_nor_numpy(tmp_path: Path) -> None:
    resumed_run(tmp_path / "root", 3)
    printed = run_python(
        "import sys\nfrom smartcash_format.manager.reader import CheckpointReader\n"
        f"CheckpointReader({str(tmp_path / 'root')!r}).report({str(tmp_path / 'out.html')!r})\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    assert "jinja2" in printed.split()
    assert not {"torch", "numpy"} & set(printed.split())


def test_how_the_weights_moved_stands_in_the_page_without_any_script(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_weighed(root, 1, {"stem.w": (4.0, 1), "head.w": (1.0, 1), "late.w": (1.0, 1),
                            "int.w": (None, 1)})  # fmt: skip
    write_weighed(root, 2, {"stem.w": (4.0, 1), "head.w": (1.5, 2), "late.w": (math.nan, 2),
                            "int.w": (None, 2)},
                  parent_id=identifier(1))  # fmt: skip
    page = page_of(root)
    assert '<td class="same">=</td>' in page
    assert '<td class="s4">+50%</td>' in page
    assert '<td class="s1">≠</td>' in page
    # With norm, largest value and how many are no numbers in a table of their own.
    assert "<td>1.5000 / 1.5000</td>" in page
    assert '<td class="bad">NaN, ∞</td>' in page
    assert "<td>NaN / NaN / 1 NaN, 1 ∞</td>" in page
    document = re.search(r'id="weights-data">(.*?)</script>', page)
    assert document is not None
    assert json.loads(document[1])["rows"] == [1, 0]


def test_the_tensors_of_the_answer_and_what_the_disk_holds_stand_in_the_page(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    path = write_weighed(root, 1, {"stem.w": 4.0, f"{SCRIPT}.w": 1.0})
    page = page_of(root)
    assert SCRIPT not in page
    assert "<title>stem.w: F32 2 x 2, 16 B</title>" in page
    assert '<td>2 x 2</td><td class="number">16 B</td>' in page
    size = sum(file.stat().st_size for file in path.iterdir())
    assert f'max="{size}" value="5000"' in page


def test_the_layers_of_a_resumed_run_are_those_of_its_branch(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in (1, 2, 3):
        write_weighed(root, number, {"a.w": number}, parent_id=identifier(number - 1))
    write_weighed(
        root, 4, {"a.w": 9}, epoch=2, run_id=OTHER_RUN, parent_id=identifier(1), is_best=True
    )
    page = page_of(root)
    heading = re.search(r"<tr><th scope=\"col\">module</th>(.*?)</tr>", page)
    assert heading is not None
    assert re.findall(r"epoch \d", heading[1]) == ["epoch 1", "epoch 2"]


def test_a_root_that_is_given_twice_is_there_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in (2, 3):  # the parent of the first is gone
        write_weighed(root, number, {"a.w": number}, parent_id=identifier(number - 1))
    twice = data_of(page_of(root, root))
    once = data_of(page_of(root))
    assert twice["branches"] == once["branches"]
    assert len(column(twice, "epoch")) == 2


def test_the_history_of_a_root_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(root: Path, entries: Sequence[Entry]) -> History:
        read.append(root)
        return read_history(root, entries)

    monkeypatch.setattr(lineage, "read_history", counted)
    roots = [resumed_run(tmp_path / name, 3) for name in ("one", "two")]
    page_of(*roots)
    assert sorted(read) == roots


def test_branches_are_bridged_where_checkpoints_were_removed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    store = CheckpointStore(root)
    for number, parent, run in [(1, 0, RUN), (2, 1, RUN), (3, 2, OTHER_RUN), (4, 2, RUN)]:
        fields: dict[str, Any] = {"run_id": run, "parent_id": identifier(parent)}
        path = write_weighed(root, number, {"a.w": 1}, **fields)
        store.record_save(path, build_meta(number, **fields))
    remove(next(entry.path for entry in store.list() if entry.epoch == 2))
    labels = [branch["label"] for branch in data_of(page_of(root))["branches"]]
    assert labels == [f"run {RUN[:8]}", f"run {RUN[:8]}, from epoch 1"]
