"""The report wherever it is looked at: wide, narrow, dark, on paper, without scripts."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from tests.store.checkpoints import identifier, write_checkpoint
from tests.view.browser import Browser, report_of
from tests.view.roots import SCRIPT, hostile, weighed_run

pytestmark = pytest.mark.browser

FITS = "return document.documentElement.scrollWidth <= window.innerWidth"
BACKGROUND = "return getComputedStyle(document.body).backgroundColor"


@pytest.mark.parametrize(
    ("width", "dark"), [(1200, False), (1200, True), (360, False), (360, True)]
)
def test_nothing_is_cut_off_by_day_and_by_night(
    quiet: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    quiet.open(report_of(weighed_run(tmp_path / "root")), width=width, dark=dark)
    assert quiet.run(FITS)
    assert (quiet.run(BACKGROUND) == "rgb(15, 19, 24)") is dark
    quiet.picture(f"{'dark' if dark else 'light'}-{width}")


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (360, True)])
def test_hostile_texts_are_shown_and_nothing_runs(
    quiet: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    quiet.open(report_of(hostile(tmp_path / "root")), width=width, dark=dark)
    for box in quiet.driver.find_elements("css selector", "#checkpoints tbody input"):
        quiet.run("arguments[0].click()", box)
    assert SCRIPT[:40] in quiet.texts(".chart h3")[0]
    assert "{{ 7 * 7 }}" in quiet.texts(".chart h3")
    assert "x\\u{202e}y" in quiet.texts(".chart h3")
    assert quiet.driver.title.startswith("Checkpoints: ")
    assert quiet.texts("img") == []
    assert quiet.run(FITS)
    quiet.picture(f"hostile-{width}")


def test_without_scripts_the_answer_and_what_needs_none_are_there(
    quiet: Browser, tmp_path: Path
) -> None:
    quiet.open(report_of(weighed_run(tmp_path / "root")), scripts=False)
    assert "need JavaScript" in quiet.texts("noscript p")[0]
    assert quiet.texts("#answer-name")[0].startswith("epoch-0016-")
    assert "epoch 16" in quiet.texts(".heat th")
    assert quiet.run("return document.querySelectorAll('.treemap rect').length") == 11
    quiet.picture("without-scripts")


@pytest.mark.parametrize(("width", "height"), [(1200, 800), (360, 640)])
def test_of_two_hundred_the_best_is_on_the_first_screen(
    quiet: Browser, tmp_path: Path, width: int, height: int
) -> None:
    for number in range(1, 201):
        metrics = {"val_map": math.sin(number / 40), "train_loss": 3 / (number + 1)}
        write_checkpoint(
            tmp_path / "root", number, metrics=metrics, parent_id=identifier(number - 1)
        )
    quiet.open(report_of(tmp_path / "root"), width=width, height=height)
    assert quiet.texts("#answer-name") == ["epoch-0063-0000003f"]
    lowest = "return [...document.querySelectorAll('#answer-name, #answer button')]"
    bottoms = quiet.run(f"{lowest}.map(e => e.getBoundingClientRect().bottom)")
    assert len(bottoms) == 3
    assert max(bottoms) <= height
    assert quiet.run("return Number(document.documentElement.dataset.ready)") > 0


def test_on_paper_everything_is_opened_and_fits(quiet: Browser, tmp_path: Path) -> None:
    root = weighed_run(tmp_path / "root")
    quiet.open(report_of(root), dark=True)
    paper = quiet.paper("print")
    assert paper.startswith(b"%PDF")
    pages = re.findall(rb"/MediaBox \[0 0 ([0-9.]+) ([0-9.]+)\]", paper)
    # The heat map lies across.
    assert any(float(width) > float(height) for width, height in pages)
    assert (
        quiet.run("return document.querySelectorAll('main > section > details[open]').length") == 0
    )
    quiet.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    quiet.run("window.dispatchEvent(new Event('beforeprint'))")
    assert (
        quiet.run("return document.querySelectorAll('main > section > details[open]').length") == 3
    )
    # As wide as a page across, in the pixels of CSS.
    wide = "document.body.style.width = '1060px'; return document.querySelector('.heat')"
    assert quiet.run(f"{wide}.scrollWidth") <= 1060
    quiet.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
