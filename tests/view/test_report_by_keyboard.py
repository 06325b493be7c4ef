"""The report without a mouse: every control is reached by Tab, works, and keeps the focus."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.checkpoints import write_checkpoint
from tests.view.browser import Browser, report_of
from tests.view.roots import weighed_run

pytestmark = pytest.mark.browser

CONTROLS = """return [...document.querySelectorAll("button, select, input, summary, a, [tabindex]")]
  .filter(e => e.checkVisibility({contentVisibilityAuto: true}) && !e.disabled).length"""
RANGES = "return charts.state.plots.map(plot => [plot.scales.x.min, plot.scales.x.max])"


def keys() -> type:
    from selenium.webdriver.common.keys import Keys

    found: type = Keys
    return found


def test_tab_reaches_every_control_and_each_has_a_name(opened: Browser) -> None:
    tab = keys().TAB  # type: ignore[attr-defined]
    reached: list[str] = []
    opened.run("window.seen = new Set()")
    count = opened.run(CONTROLS)
    for _ in range(count):
        opened.keys(tab)
        reached.append(opened.focused())
        opened.run("window.seen.add(document.activeElement)")
    assert opened.run("return window.seen.size") == count
    assert all(" " in each for each in reached if not each.startswith("DIV"))
    assert "BUTTON Zoom in" in reached
    assert "SUMMARY Runs" in reached
    assert "BUTTON Copy the path of epoch-0008-0000000c" in reached


def test_choosing_what_is_better_keeps_the_focus(opened: Browser) -> None:
    opened.tab_to("SELECT better is")
    opened.keys("l")  # of "larger"
    assert opened.focused() == "SELECT better is"
    assert opened.texts("#answer-words")[0].startswith("val_loss 2; larger is better.")
    assert opened.texts("#answer-name")[0].startswith("epoch-0001-")


def test_curves_are_zoomed_moved_and_runs_hidden(opened: Browser) -> None:
    enter, space = keys().ENTER, keys().SPACE  # type: ignore[attr-defined]
    opened.tab_to("SUMMARY Runs")
    opened.keys(enter)
    opened.tab_to("INPUT run 11111111")
    opened.keys(space)
    assert opened.run("return charts.state.plots.map(plot => plot.series.length)") == [2, 2, 2]
    assert opened.focused() == "INPUT run 11111111"
    opened.keys(space)
    opened.tab_to("BUTTON Zoom in")
    opened.keys(enter)
    assert opened.run(RANGES)[0] == [2.75, 6.25]
    opened.tab_to("BUTTON Show what comes after")
    opened.keys(enter)
    assert opened.run(RANGES)[0] == [4.5, 8]


def test_a_heading_sorts_and_keeps_the_focus(opened: Browser) -> None:
    opened.tab_to("BUTTON epoch")
    opened.keys(keys().ENTER)  # type: ignore[attr-defined]
    assert opened.focused() == "BUTTON epoch ▼"
    assert opened.find("th[aria-sort=descending]").text == "epoch ▼"


def test_rows_are_ticked_to_be_compared(opened: Browser) -> None:
    space = keys().SPACE  # type: ignore[attr-defined]
    for name in ("epoch-0008-0000000c", "epoch-0007-0000000b"):
        opened.tab_to(f"INPUT Compare {name}")
        opened.keys(space)
    assert "epoch-0007-0000000b" in opened.texts("#compare-result")[0]


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (360, False)])
def test_axe_finds_nothing_that_keeps_anybody_out(
    quiet: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    root = weighed_run(tmp_path / "root")
    (write_checkpoint(root, 99) / "meta.json").write_text("{")
    quiet.open(report_of(root), width=width, dark=dark)
    quiet.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    boxes = "[...document.querySelectorAll('#checkpoints tbody input')]"
    quiet.run(f"{boxes}.slice(0, 2).forEach(box => box.click())")
    assert quiet.violations() == []
    # It would find something.
    quiet.run("document.querySelector('#best-by').parentNode.firstChild.remove()")
    assert [each.partition(":")[0] for each in quiet.violations()] == ["select-name"]


def test_no_colour_of_the_heat_map_is_too_faint_to_read(opened: Browser) -> None:
    for dark in (False, True):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        for kind in ("s0", "s1", "s2", "s3", "s4", "bad"):
            text, cell, page = opened.run(COLOURS, kind)
            assert contrast(text, over(cell, page)) >= 4.5, (kind, dark)


COLOURS = """
const table = document.body.appendChild(document.createElement("table"));
table.className = "heat";
const cell = table.insertRow().insertCell();
cell.className = arguments[0];
// Drawn, because a mixed colour is told in another notation.
const pixel = colour => {
  const context = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
    .getContext("2d");
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data];
};
const style = getComputedStyle(cell), page = getComputedStyle(document.body);
const found = [style.color, style.backgroundColor, page.backgroundColor].map(pixel);
table.remove();
return found;
"""


def over(colour: list[float], page: list[float]) -> list[float]:
    share = colour[3] / 255
    return [share * c + (1 - share) * p for c, p in zip(colour[:3], page[:3], strict=True)]


def contrast(one: list[float], other: list[float]) -> float:
    """WCAG 2.2, contrast ratio."""

    def light(colour: list[float]) -> float:
        parts = [part / 255 for part in colour[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((light(one), light(other)))
    return (lighter + 0.05) / (darker + 0.05)
