"""The report as a person uses it, in headless Chromium: `make browser`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from smartcash_format.store.catalog import scan
from smartcash_format.view.report import write_report
from tests.store.checkpoints import identifier, write_checkpoint, write_weighed
from tests.view.browser import Browser, browser
from tests.view.roots import SCRIPT, hostile, resumed_run

pytestmark = pytest.mark.browser

ROWS = "#checkpoints tbody tr"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def opened(chromium: Browser, tmp_path: Path) -> Iterator[Browser]:
    """The report of a resumed run of twelve; whatever a test did, nothing complained or asked."""
    chromium.requests()
    page = report_of(resumed_run(tmp_path / "root"))
    chromium.open(page)
    yield chromium
    assert chromium.complaints() == []
    assert chromium.requests() <= {page.as_uri()}


def report_of(root: Path) -> Path:
    path = root.parent / "report.html"
    write_report(path, scan(root), now=datetime(2026, 2, 1, tzinfo=UTC), title=str(root))
    return path


def epochs(page: Browser) -> list[int]:
    return [int(text) for text in page.texts(f"{ROWS} td:nth-child(2)")]


def test_it_opens_with_the_answer_the_curves_and_the_best_marked(opened: Browser) -> None:
    assert opened.texts("#answer-name")[0].startswith("epoch-0008-")
    assert len(opened.texts(".chart canvas")) == 3
    assert opened.texts(".chart li") == ["NaN at epoch 2 (run 11111111)"]
    (best,) = opened.texts(f"{ROWS}.best td:first-child")
    assert best.startswith("★ best: epoch-0008-")
    label = opened.find(".chart [role=img]").get_attribute("aria-label")
    assert label.startswith("val_loss over epoch: 2 lines, 12 points")


def test_a_heading_sorts_and_says_so(opened: Browser) -> None:
    assert epochs(opened) == [8, 7, 6, 5, 8, 7, 6, 5, 4, 3, 2, 1]
    opened.press("val_loss")
    heading = opened.find("th[aria-sort=descending]")
    assert heading.text == "val_loss ▼"
    # What is no number comes last, whichever way.
    assert epochs(opened)[0] == 1
    assert epochs(opened)[-1] == 2
    opened.press("val_loss ▼")
    assert epochs(opened)[0] == 8
    assert epochs(opened)[-1] == 2


def test_text_and_a_range_of_a_metric_filter(opened: Browser) -> None:
    text = opened.find("#table-tools input[type=search]")
    text.send_keys("EPOCH-0008")
    assert epochs(opened) == [8, 8]
    assert opened.texts("#table-count") == ["2 of 12 shown"]
    text.clear()
    text.send_keys(" ")
    opened.find("#table-tools input[type=number]").send_keys("0.3")
    opened.run("document.querySelectorAll('#table-tools input')[2].focus()")
    opened.driver.switch_to.active_element.send_keys("0.5")
    assert sorted(epochs(opened)) == [4, 5, 5, 6, 6]


def test_columns_are_chosen(opened: Browser) -> None:
    assert "backbone" not in opened.texts("#checkpoints th")
    opened.find("#table-tools summary").click()
    opened.driver.find_element(
        "xpath", "//*[@id='table-tools']//label[normalize-space()='backbone']/input"
    ).click()
    assert "backbone" in opened.texts("#checkpoints th")


def test_two_ticked_checkpoints_are_compared(opened: Browser) -> None:
    boxes = opened.driver.find_elements("css selector", f"{ROWS} input[type=checkbox]")
    for box in (boxes[0], boxes[-1]):
        opened.run("arguments[0].click()", box)
    shown = opened.texts("#compare-result")[0]
    assert "training.lr" in shown
    assert "0.0005" in shown
    assert "training.epochs" not in shown  # it does not differ
    opened.choose("#compare-tools label:last-child select", "\u2013")
    assert "training.epochs" in opened.texts("#compare-result")[0]


def test_a_path_and_a_line_of_python_are_copied(opened: Browser) -> None:
    opened.driver.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    opened.press("Copy Python")
    copied = opened.driver.execute_async_script(
        "navigator.clipboard.readText().then(arguments[0], e => arguments[0](String(e)))"
    )
    path = opened.texts("#answer-path")[0]
    assert copied == f'load_checkpoint("{path}", model=model)'


def test_another_metric_gives_another_answer(opened: Browser) -> None:
    opened.choose("#best-by", "val/late")
    assert opened.texts("#answer-words")[0].startswith("val/late 0.6667; larger is better.")
    assert opened.texts("#answer-name")[0].startswith("epoch-0008-")
    opened.choose("#answer-tools label:nth-child(2) select", "smaller")
    assert opened.texts("#answer-name")[0].startswith("epoch-0005-")
    assert opened.texts(f"{ROWS}.best td:first-child")[0].startswith("★ best: epoch-0005-")


def test_buttons_zoom_all_curves_and_back(opened: Browser) -> None:
    ranges = "return charts.state.plots.map(plot => [plot.scales.x.min, plot.scales.x.max])"
    whole = opened.run(ranges)
    opened.press("Zoom in")
    zoomed = opened.run(ranges)
    assert len({tuple(each) for each in zoomed}) == 1
    assert zoomed[0][1] - zoomed[0][0] < whole[0][1] - whole[0][0]
    opened.press("Show all")
    assert opened.run(ranges)[0] == whole[0]


def test_hostile_texts_are_shown_and_nothing_runs(chromium: Browser, tmp_path: Path) -> None:
    chromium.requests()
    page = report_of(hostile(tmp_path / "root"))
    chromium.open(page)
    boxes = chromium.driver.find_elements("css selector", f"{ROWS} input[type=checkbox]")
    for box in boxes:
        chromium.run("arguments[0].click()", box)
    assert SCRIPT[:40] in chromium.texts(".chart h3")[0]
    assert "{{ 7 * 7 }}" in chromium.texts(".chart h3")
    assert "x\\u{202e}y" in chromium.texts(".chart h3")
    assert chromium.driver.title.startswith("Checkpoints: ")
    assert chromium.texts("img") == []
    assert chromium.complaints() == []
    assert chromium.requests() <= {page.as_uri()}


@pytest.mark.parametrize("metrics", [{}, {"val_loss": float("nan")}])
def test_without_a_number_there_is_still_a_table(
    chromium: Browser, tmp_path: Path, metrics: dict[str, float]
) -> None:
    write_checkpoint(tmp_path / "root", 1, metrics=metrics)
    chromium.open(report_of(tmp_path / "root"))
    assert len(chromium.texts(ROWS)) == 1
    assert chromium.texts(".chart canvas") == []
    assert chromium.complaints() == []


def test_an_empty_root_says_so(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(report_of(tmp_path / "root"))
    assert chromium.texts("#answer-words") == ["There is no checkpoint here."]
    assert chromium.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_off_on_a_telephone(chromium: Browser, tmp_path: Path, dark: bool) -> None:
    chromium.open(report_of(resumed_run(tmp_path / "root")), width=360, dark=dark)
    assert chromium.run("return document.documentElement.scrollWidth <= window.innerWidth")
    page = chromium.run("return getComputedStyle(document.body).backgroundColor")
    assert (page == "rgb(15, 19, 24)") is dark


def test_the_keyboard_reaches_every_control(opened: Browser) -> None:
    unreachable = "button, select, input, summary, a"
    script = (
        "return [...document.querySelectorAll(arguments[0])].filter(e => e.tabIndex < 0).length"
    )
    assert opened.run(script, unreachable) == 0
    unnamed = (
        "return [...document.querySelectorAll('input, select')]"
        ".filter(e => !e.labels.length && !e.ariaLabel).length"
    )
    assert opened.run(unnamed) == 0


def test_two_compared_show_the_layers_that_changed(chromium: Browser, tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_weighed(root, 1, {"stem.w": (4.0, 1), "head.w": (1.0, 1)}, metrics={"val_map": 0.9})
    write_weighed(root, 2, {"stem.w": (4.0, 1), "head.w": (1.5, 2)}, parent_id=identifier(1))
    chromium.open(report_of(root))
    shown = chromium.texts("#compare-result")[0]
    assert "1 of 2 modules are the same to the last bit." in shown
    assert "head\t1\t1.5000\t+50%" in shown
    colour = "return getComputedStyle(document.querySelector('.heat .s4')).backgroundColor"
    assert chromium.run(colour) not in ("", "rgba(0, 0, 0, 0)")
    assert chromium.run("return document.querySelectorAll('.treemap rect').length") == 2
    assert chromium.complaints() == []
