"""What a notebook shows, as a browser shows it: it sorts, by day and by night."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smartcash_format.disk.observe import validate
from smartcash_format.spec.problems import Depth
from smartcash_format.store.catalog import scan
from smartcash_format.view.notebook import listing_html, report_html
from tests.store.checkpoints import write_checkpoint
from tests.view.browser import Browser
from tests.view.roots import resumed_run

pytestmark = pytest.mark.browser

EXAMPLE = Path(__file__).parents[2] / "examples" / "checkpoints.ipynb"

# A notebook's colours; what is shown in it takes them over.
PAGE = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<script>document.documentElement.dataset.ready = "yes"</script><body>{}"""


@pytest.mark.parametrize("dark", [False, True])
def test_a_listing_sorts_by_mouse_and_by_keyboard(
    quiet: Browser, tmp_path: Path, dark: bool
) -> None:
    from selenium.webdriver.common.keys import Keys

    listing = scan(resumed_run(tmp_path / "root"))
    page = tmp_path / "notebook.html"
    page.write_text(PAGE.format(listing_html(listing, None)), encoding="utf-8")
    quiet.open(page, width=900, height=700, dark=dark)
    losses = "tbody td:nth-child(4)"
    heading = quiet.find("th:nth-child(4)")
    assert heading.text == "val_loss"
    heading.click()
    found = quiet.texts(losses)
    assert heading.get_attribute("aria-sort") == "descending"
    # What is no number comes last, whichever way.
    assert (found[0], found[-1]) == ("2", "NaN")
    heading.send_keys(Keys.ENTER)
    found = quiet.texts(losses)
    assert heading.get_attribute("aria-sort") == "ascending"
    assert (found[0], found[-1]) == ("0.2400", "NaN")
    ages = "th:last-child"
    quiet.find(ages).click()
    assert quiet.texts("tbody td:first-child")[0].startswith("epoch-0001-")  # the oldest
    colours = "const s = getComputedStyle(document.querySelector('td')); return s.color"
    assert quiet.run(colours) == ("rgb(255, 255, 255)" if dark else "rgb(0, 0, 0)")
    quiet.picture(f"notebook-{'dark' if dark else 'light'}")


@pytest.mark.parametrize(("width", "dark"), [(900, False), (900, True), (360, False)])
def test_the_executed_example_shows_all_its_answers(
    quiet: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    cells = json.loads(EXAMPLE.read_text(encoding="utf-8"))["cells"]
    shown = [
        "".join(output["data"]["text/html"])
        for cell in cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    page = tmp_path / "notebook.html"
    # As notebooks do, each in a box that scrolls by itself.
    boxes = "".join(f'<div style="overflow:auto">{html}</div>' for html in shown)
    page.write_text(PAGE.format(boxes), encoding="utf-8")
    quiet.open(page, width=width, height=700, dark=dark)
    said = quiet.texts("body")[0]
    # The list, an entry, a validation, a diff and the history.
    for answer in ("6 checkpoints", "optimizer.pt", "valid and intact", "other weights", "resume"):
        assert answer in said
    assert quiet.run("return document.documentElement.scrollWidth <= innerWidth")
    history = "//th[.='what']/ancestor::table[.//td='resume']"
    table = quiet.driver.find_element("xpath", history)
    table.find_element("xpath", ".//th[.='epoch']").click()
    rows = table.find_elements("css selector", "tbody td:nth-child(4)")
    assert [cell.text for cell in rows] == ["6", "6", "5", "4", "3", "2", "1"]
    quiet.picture(f"example-{'dark' if dark else 'light'}-{width}")


@pytest.mark.parametrize(
    ("paper", "ink"), [("#ffffff", "#000000"), ("#111111", "#ffffff"), ("#383838", "#e3e3e3")]
)
def test_every_text_is_read_on_the_papers_of_jupyter_and_colab(
    quiet: Browser, tmp_path: Path, paper: str, ink: str
) -> None:
    root = resumed_run(tmp_path / "root")
    path = write_checkpoint(root, 99)
    (path / "meta.json").write_text("{")
    listing = scan(root)
    shown = [listing_html(listing, listing[0]), report_html(validate(path, Depth.META))]
    page = tmp_path / "notebook.html"
    colours = f'<div style="background:{paper};color:{ink}">'
    page.write_text(PAGE.format(colours + "".join(shown)), encoding="utf-8")
    quiet.open(page)
    said = quiet.texts("body")[0]
    assert "! epoch-0099" in said
    assert "✗ epoch-0099" in said
    assert [each for each in quiet.violations() if each.startswith("color-contrast")] == []
