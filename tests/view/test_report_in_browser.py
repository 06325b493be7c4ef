"""The report as a person uses it, in headless Chromium: `make browser`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.checkpoints import OTHER_RUN, identifier, write_checkpoint, write_weighed
from tests.view.browser import Browser, report_of

pytestmark = pytest.mark.browser

ROWS = "#checkpoints tbody tr"
RANGES = "return charts.state.plots.map(plot => [plot.scales.x.min, plot.scales.x.max])"
OVER = ".chart .u-over"


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


def copied(page: Browser) -> str:
    """What the page put on the clipboard."""
    page.driver.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    found = page.driver.execute_async_script(
        "navigator.clipboard.readText().then(arguments[0], e => arguments[0](String(e)))"
    )
    assert isinstance(found, str)
    return found


def test_a_path_and_a_line_of_python_are_copied(opened: Browser) -> None:
    path = opened.texts("#answer-path")[0]
    opened.press("Copy path")
    assert copied(opened) == path
    opened.press("Copy Python")
    assert copied(opened).endswith(f'load_checkpoint("{path}", model=model)')


@pytest.mark.torch
def test_the_copied_line_of_python_loads_the_best_wherever_it_is_pasted(
    quiet: Browser, tmp_path: Path
) -> None:
    import torch
    from torch import nn

    from smartcash_format import CheckpointManager

    root = tmp_path / 'it\'s a "run" \u00fc \U0001f600'
    manager = CheckpointManager(root, monitor="loss", mode="min")
    best = nn.Linear(3, 3)
    manager.save_checkpoint(best, epoch=1, metrics={"loss": 1.0})
    manager.save_checkpoint(nn.Linear(3, 3), epoch=2, metrics={"loss": 2.0})
    page = tmp_path / "report.html"
    quiet.open(manager.report(page))
    quiet.press("Copy Python")
    model = nn.Linear(3, 3)
    exec(copied(quiet), {"model": model})
    assert torch.equal(model.weight, best.weight)


def test_another_metric_gives_another_answer(opened: Browser) -> None:
    opened.choose("#best-by", "val/late")
    assert opened.texts("#answer-words")[0].startswith("val/late 0.6667; larger is taken")
    assert opened.texts("#answer-name")[0].startswith("epoch-0008-")
    opened.choose("#answer-tools label:nth-child(2) select", "smaller")
    assert opened.texts("#answer-name")[0].startswith("epoch-0005-")
    assert opened.texts(f"{ROWS}.best td:first-child")[0].startswith("★ best: epoch-0005-")


def test_a_metric_whose_name_says_nothing_is_ranked_as_the_reader_says(
    quiet: Browser, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        write_checkpoint(tmp_path / "root", number, metrics={"grad_norm": 4.0 - number})
    quiet.open(report_of(tmp_path / "root"))
    (said,) = quiet.texts("#answer-words")
    assert "no metric's name says whether larger or smaller is better (grad_norm)" in said
    assert quiet.texts("#answer-name")[0].startswith("epoch-0003-")
    quiet.choose("#best-by", "grad_norm")
    (said,) = quiet.texts("#answer-words")
    assert said.startswith("grad_norm 3; larger is taken as better: its name does not say.")
    quiet.choose("#answer-tools label:nth-child(2) select", "smaller")
    assert quiet.texts("#answer-words")[0].startswith("grad_norm 1; smaller is better.")


def test_buttons_zoom_all_curves_move_them_and_go_back(opened: Browser) -> None:
    whole = opened.run(RANGES)
    opened.press("Zoom in")
    zoomed = opened.run(RANGES)
    assert zoomed[0] == zoomed[1] == zoomed[2] == [2.75, 6.25]
    opened.press("→")
    assert opened.run(RANGES)[2] == [4.5, 8]
    for _ in range(2):
        opened.press("←")
    assert opened.run(RANGES)[0] == [1, 4.5]
    opened.press("Zoom out")
    assert opened.run(RANGES) == whole
    opened.press("Zoom in")
    opened.press("Show all")
    assert opened.run(RANGES) == whole


@pytest.mark.parametrize("metrics", [{}, {"val_loss": float("nan")}])
def test_without_a_number_there_is_still_a_table(
    quiet: Browser, tmp_path: Path, metrics: dict[str, float]
) -> None:
    write_checkpoint(tmp_path / "root", 1, metrics=metrics)
    quiet.open(report_of(tmp_path / "root"))
    assert len(quiet.texts(ROWS)) == 1
    assert quiet.texts(".chart canvas") == []


def test_an_empty_root_says_so(quiet: Browser, tmp_path: Path) -> None:
    quiet.open(report_of(tmp_path / "root"))
    assert quiet.texts("#answer-words") == ["There is no checkpoint here."]


def three_weighed(root: Path) -> Path:
    """A run of two whose best is the first, and one of another run that shares its weights."""
    stem, head = {"stem.w": (4.0, 1)}, {"head.w": (1.0, 1)}
    write_weighed(root, 1, stem | head, metrics={"val_map": 0.9})
    write_weighed(root, 2, stem | {"head.w": (1.5, 2)}, parent_id=identifier(1))
    write_weighed(root, 3, stem | head, run_id=OTHER_RUN, metrics={"val_map": 0.1})
    write_weighed(root, 4, stem | {"head.w": (9.0, 3)}, run_id=OTHER_RUN, metrics={"val_map": 0.1})
    return root


def test_two_compared_show_the_layers_that_changed(quiet: Browser, tmp_path: Path) -> None:
    quiet.open(report_of(three_weighed(tmp_path / "root")))
    quiet.choose("#compare-tools label:last-child select", "epoch 2: epoch-0002-00000002")
    shown = quiet.texts("#compare-result")[0]
    assert "Other weights." in shown
    assert "1 of 2 modules are the same to the last bit." in shown
    assert "head\t1\t1.5000\t+50%" in shown
    colour = "return getComputedStyle(document.querySelector('.heat .s4')).backgroundColor"
    assert quiet.run(colour) not in ("", "rgba(0, 0, 0, 0)")
    assert quiet.run("return document.querySelectorAll('.treemap rect').length") == 2
    quiet.picture("compare")


def test_any_two_say_whether_their_weights_are_the_same(quiet: Browser, tmp_path: Path) -> None:
    quiet.open(report_of(three_weighed(tmp_path / "root")))
    second = "#compare-tools label:last-child select"
    quiet.choose(second, "epoch 3: epoch-0003-00000003")
    assert "The same weights, to the last bit." in quiet.texts("#compare-result")[0]
    quiet.choose(second, "epoch 4: epoch-0004-00000004")
    shown = quiet.texts("#compare-result")[0]
    assert "Other weights." in shown
    assert "(epochs 1, 2)" in shown
    path = tmp_path / "root" / "epoch-000"
    assert f"smartcash-format diff {path}1-00000001 {path}4-00000004" in shown
    assert "Copy command" in quiet.texts("#compare-result button")


def test_configs_that_differ_beyond_what_is_shown_are_seen_to_differ(
    quiet: Browser, tmp_path: Path
) -> None:
    for number in (1, 2):
        config = {f"key-{i:03}": i if i < 125 else number for i in range(126)}
        write_checkpoint(tmp_path / "root", number, config=config)
    quiet.open(report_of(tmp_path / "root"))
    quiet.choose("#compare-tools label:first-child select", "epoch 1: epoch-0001-00000001")
    quiet.choose("#compare-tools label:last-child select", "★ epoch 2: epoch-0002-00000002")
    assert "… 6 more\t#" in quiet.texts("#compare-result")[0]
    assert "the first 120 lines of each config" in quiet.texts("#left-out")[0]


def test_pointing_at_a_curve_tells_its_values(opened: Browser) -> None:
    values = ".chart:first-child .u-value"
    assert opened.texts(values) == ["--", "\u2013", "\u2013"]
    opened.mouse("Moved", opened.at(OVER, 0.99, 0.5))
    assert opened.texts(values) == ["8", "0.2500", "0.2400"]


def test_dragging_over_a_curve_zooms_all_and_a_double_click_shows_all(opened: Browser) -> None:
    whole = opened.run(RANGES)
    assert whole == [[1, 8]] * 3  # also of the metric that appears half-way
    start, end = opened.at(OVER, 0.25, 0.5), opened.at(OVER, 0.75, 0.5)
    opened.mouse("Moved", start)
    opened.mouse("Pressed", start)
    for part in (0.3, 0.5, 0.75):
        opened.mouse("Moved", opened.at(OVER, part, 0.5))
    opened.mouse("Released", end)
    ranges = opened.run(RANGES)
    assert ranges[0] == ranges[1] == ranges[2]
    assert 2 < ranges[0][0] < 4 < 5 < ranges[0][1] < 7
    late = opened.at(".chart:last-child .u-over", 0.5, 0.5)
    for count in (1, 2):
        opened.mouse("Pressed", late, count=count)
        opened.mouse("Released", late, count=count)
    opened.run("document.querySelector('.chart:last-child .u-over')"
               ".dispatchEvent(new MouseEvent('dblclick', {bubbles: true}))")  # fmt: skip
    assert opened.run(RANGES) == whole


def test_a_run_is_hidden_and_shown(opened: Browser) -> None:
    opened.driver.find_element("xpath", "//summary[.='Runs']").click()
    run = "//*[@id='curve-tools']//label[starts-with(normalize-space(), 'run 22222222')]/input"
    opened.driver.find_element("xpath", run).click()
    lines = "return charts.state.plots.map(plot => plot.series.length - 1)"
    assert opened.run(lines) == [1, 1, 1]
    opened.driver.find_element("xpath", run).click()
    assert opened.run(lines) == [2, 2, 2]


def test_saved_points_are_marked_however_many(quiet: Browser, tmp_path: Path) -> None:
    for number in range(130):
        write_checkpoint(tmp_path / "root", number, step=1_000_000 + number, metrics={"a": number})
    quiet.open(report_of(tmp_path / "root"))
    script = "const p = charts.state.plots[0]; return p.series[1].points.show(p, 1, 0, 129)"
    assert quiet.run(script) is True
    assert "1000129" in quiet.texts(f"{ROWS} td:nth-child(3)")
    # As if the page could not write to the clipboard: the older way keeps the focus.
    quiet.run("navigator.clipboard.writeText = () => Promise.reject()")
    quiet.press("Copy path")
    assert quiet.focused() == "BUTTON Copy the path of the best"
    assert quiet.texts("#said")[0].startswith("Copied: ")


def test_a_copied_path_is_that_of_the_row(opened: Browser) -> None:
    opened.run("navigator.clipboard.writeText = text => { window.copied = text; }")
    opened.driver.find_elements("css selector", f"{ROWS} td:last-child button")[2].click()
    copied = Path(opened.run("return window.copied"))
    assert copied.is_absolute()
    assert copied.parts[-2:] == ("root", "epoch-0007-0000000b")
