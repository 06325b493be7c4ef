"""The report of roots as they should not be: what each page still says, and says plainly."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from smartcash_format.store.catalog import merge, scan
from smartcash_format.view.report import write_report
from tests.store.checkpoints import (
    OTHER_RUN,
    build_meta,
    identifier,
    write_checkpoint,
    write_weighed,
)
from tests.view.browser import Browser, report_of
from tests.view.roots import weighed_run

BOX_MAP = "metrics/mAP50-95(B)"
ROWS = "#checkpoints tbody tr"
LINES = "return charts.state.plots.map(plot => plot.series.slice(1).map(line => line.label))"
# Whether the first chart has the star, which alone is as dark as a text.
HAS_STAR = """const {ctx, bbox} = charts.state.plots[0];
const {data} = ctx.getImageData(bbox.left, bbox.top, bbox.width, bbox.height);
for (let i = 0; i < data.length; i += 4)
  if (data[i + 3] === 255 && data[i] < 40 && data[i + 1] < 45) return true;
return false;"""


def text_of(root: Path) -> str:
    return report_of(root).read_text(encoding="utf-8")


def converted(root: Path, *epochs: int, start: int = 1) -> Path:
    """Checkpoints that know of no other, each with a run of its own."""
    for number, epoch in enumerate(epochs, start):
        run = build_meta(1).run_id.replace("1", f"{number % 10}")
        write_checkpoint(root, number, epoch=epoch, run_id=run, metrics={"val_loss": 1 / number})
    return root


def two_runs(root: Path) -> Path:
    """One run measures losses, the other, saved later, a precision."""
    for number in range(1, 11):
        parent = identifier(number - 1) if number > 1 else None
        write_checkpoint(root, number, metrics={"val_loss": 2 / number}, parent_id=parent)
    for number in range(11, 15):
        metrics = {BOX_MAP: number / 20, "metrics/recall(B)": number / 30}
        parent = identifier(number - 1) if number > 11 else None
        write_checkpoint(
            root, number, epoch=number - 10, run_id=OTHER_RUN, metrics=metrics, parent_id=parent
        )
    return root


def test_a_root_in_which_nothing_can_be_read_says_that_and_why(tmp_path: Path) -> None:
    (write_checkpoint(tmp_path / "root", 1) / "meta.json").write_text("{")
    assert "1 that look like checkpoints cannot be read: see why below." in text_of(
        tmp_path / "root"
    )


def test_a_root_of_old_files_names_the_command_that_reads_them(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "best.pt").write_bytes(b"old")
    page = text_of(tmp_path / "root")
    assert "only 1 old .pt or .pth file: see smartcash-format convert." in page


def test_how_many_have_the_metric_that_decides_is_told(tmp_path: Path) -> None:
    assert "4 of 14 checkpoints have a number in it." in text_of(two_runs(tmp_path / "root"))


def test_metrics_that_are_all_nan_are_told_from_none(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "nan", 1, metrics={"val_loss": math.nan})
    write_checkpoint(tmp_path / "none", 1, metrics={})
    assert "none has a metric that is a finite number." in text_of(tmp_path / "nan")
    assert "none has a metric." in text_of(tmp_path / "none")


def gone(root: Path) -> None:
    shutil.rmtree(root)


def replaced_by_a_file(root: Path) -> None:
    shutil.rmtree(root)
    root.write_text("")


def garbled(root: Path) -> None:
    for path in root.iterdir():
        (path / "tensors.json").write_text("{")
        (path / "meta.json").write_text("[")


def without_files(root: Path) -> None:
    for path in root.glob("*/*"):
        path.unlink()


def grown(root: Path) -> None:
    write_checkpoint(root, 99, is_best=True)


@pytest.mark.parametrize("change", [gone, replaced_by_a_file, garbled, without_files, grown])
def test_a_root_that_changes_after_it_was_listed_is_reported_as_it_was(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    listing = scan(weighed_run(tmp_path / "root"))
    change(tmp_path / "root")
    target = tmp_path / "report.html"
    written = write_report(target, listing, now=datetime(2026, 2, 1, tzinfo=UTC), title="a root")
    assert written.answer.entry == listing[0]
    page = target.read_text(encoding="utf-8")
    assert 'Use <span id="answer-name">epoch-0016-00000018' in page
    assert "24 checkpoints" in page


def test_the_size_above_is_the_one_below(tmp_path: Path) -> None:
    page = text_of(two_runs(tmp_path / "root"))
    size = page.partition("14 checkpoints, ")[2].partition(";")[0]
    assert f"<p>{size}.</p>" in page


@pytest.mark.browser
def test_a_point_alone_is_drawn_and_shown_whole(quiet: Browser, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "root", 1, metrics={"val_loss": 0.5}, config={"lr": 0.25})
    quiet.open(report_of(tmp_path / "root"))
    assert quiet.run(HAS_STAR)
    (shown,) = quiet.texts("#compare-result")
    assert "weights optimizer scheduler" in shown
    assert "lr\t0.25" in shown
    quiet.press("Zoom in")
    assert quiet.run("return charts.state.plots[0].scales.x.min") == 0.5
    quiet.picture("one")


@pytest.mark.browser
def test_the_newest_that_nothing_speaks_for_is_not_called_best(
    quiet: Browser, tmp_path: Path
) -> None:
    for number in (1, 2):
        write_checkpoint(tmp_path / "root", number, metrics={"val_loss": math.nan})
    quiet.open(report_of(tmp_path / "root"))
    assert quiet.texts(f"{ROWS}.best td:first-child")[0].startswith("★ newest: epoch-0002-")
    assert quiet.texts(".chart li") == [
        f"NaN at epoch {n} (run 11111111)" for n in (1, 2)
    ]  # fmt: skip
    quiet.picture("all-nan")


@pytest.mark.browser
def test_two_runs_with_different_metrics_have_each_its_curves(
    quiet: Browser, tmp_path: Path
) -> None:
    quiet.open(report_of(two_runs(tmp_path / "root")))
    assert quiet.texts(".chart h3") == ["metrics/mAP50-95(B)", "val_loss", "metrics/recall(B)"]
    assert quiet.run(LINES) == [["run 22222222"], ["run 11111111"], ["run 22222222"]]
    assert quiet.texts("#answer-words")[0].startswith("metrics/mAP50-95(B) 0.7000;")
    # The same metric by name in the filter and in a heading.
    quiet.choose("#table-tools select", BOX_MAP)
    quiet.find("#table-tools input[type=number]").send_keys("0.6")
    assert quiet.texts("#table-count") == ["3 of 14 shown"]
    quiet.press(BOX_MAP)
    assert quiet.texts(f"{ROWS} td:nth-child(2)") == ["4", "3", "2"]
    quiet.picture("two-runs")


@pytest.mark.browser
def test_what_was_converted_one_by_one_is_a_line_and_not_a_run_for_each(
    quiet: Browser, tmp_path: Path
) -> None:
    # A second series begins where the epochs begin anew.
    quiet.open(report_of(converted(tmp_path / "root", 1, 2, 3, 2, 4)))
    assert quiet.run(LINES) == [
        ["saved one by one, from epoch 1", "saved one by one, from epoch 2"]
    ]
    quiet.picture("one-by-one")


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1280])
def test_an_empty_root_and_a_broken_one_are_no_empty_page(
    quiet: Browser, tmp_path: Path, width: int
) -> None:
    (write_checkpoint(tmp_path / "broken", 1) / "meta.json").write_text("{")
    quiet.open(report_of(tmp_path / "broken"), width=width)
    assert "cannot be read" in quiet.texts("#answer-words")[0]
    assert "json-syntax" in quiet.texts("#broken-list li")[0]
    quiet.picture(f"broken-{width}")
    quiet.open(report_of(tmp_path / "empty"), width=width)
    assert quiet.texts("#answer h2") == ["Nothing to choose from"]


def headings(root: Path) -> list[tuple[str, str]]:
    """What stands over the weights, table by table."""
    weights = text_of(root).partition('id="weights"')[2].partition("</section>")[0]
    return re.findall(r"<h2[^>]*>(.*?)</h2>|<th scope=\"col\">(epoch .*?)</th>", weights)


def test_the_weights_of_what_was_converted_one_by_one_are_followed(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_weighed(tmp_path / "root", number, {"a.w": number}, metrics={"val_loss": 1.0})
    moved = [title or column for title, column in headings(tmp_path / "root")]
    assert moved == ["How the weights moved", *["epoch 1", "epoch 2", "epoch 3"] * 2]


def test_one_alone_has_norms_and_nothing_to_have_moved_from(tmp_path: Path) -> None:
    write_weighed(tmp_path / "root", 1, {"a.w": 4.0})
    found = [title or column for title, column in headings(tmp_path / "root")]
    assert found == ["How the weights are", "epoch 1"]
    assert "<td>4 / 4</td>" in text_of(tmp_path / "root")


def test_what_knows_its_parent_stays_a_branch(tmp_path: Path) -> None:
    listing = merge([scan(converted(two_runs(tmp_path / "root"), 20, 30, start=20))])
    assert len(listing) == 16
    page = text_of(tmp_path / "root")
    for label in ("run 11111111", "run 22222222", "saved one by one, from epoch 20"):
        assert page.count(f'{{"label":"{label}","fork":null}}') == 1


@pytest.mark.browser
def test_a_training_that_counts_steps_is_drawn_over_steps(quiet: Browser, tmp_path: Path) -> None:
    for number in range(1, 9):
        metrics = {"val_loss": math.nan if number == 3 else 2 / number}
        parent = identifier(number - 1) if number > 1 else None
        write_weighed(
            tmp_path / "root", number, {"a.w": number}, epoch=number // 5, step=500 * number,
            metrics=metrics, parent_id=parent,
        )  # fmt: skip
    quiet.open(report_of(tmp_path / "root"))
    ranges = "return charts.state.plots.map(plot => [plot.scales.x.min, plot.scales.x.max])"
    assert quiet.run(ranges) == [[500, 4000]]
    assert quiet.texts(".chart li") == ["NaN at step 1500 (run 11111111)"]
    assert quiet.texts(".heat thead th")[:3] == ["module", "step 500", "step 1000"]
    words = "the next best (epoch 1, step 3500)"
    assert words in quiet.texts("#answer-words")[0]
    quiet.choose("#answer-tools label:nth-child(2) select", "larger")
    quiet.choose("#answer-tools label:nth-child(2) select", "smaller")
    assert words in quiet.texts("#answer-words")[0]
    quiet.choose("#curve-tools select", "epoch")
    assert quiet.run(ranges) == [[0, 1]]
    quiet.choose("#curve-tools select", "order of saving")
    assert quiet.run(ranges) == [[1, 8]]
    quiet.choose("#curve-tools select", "step")
    quiet.picture("steps")
