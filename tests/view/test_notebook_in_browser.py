"""What a notebook shows, as a browser shows it: it sorts, by day and by night."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartcash_format.store.catalog import scan
from smartcash_format.view.notebook import listing_html
from tests.view.browser import Browser
from tests.view.roots import resumed_run

pytestmark = pytest.mark.browser

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
