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

# Whether a field has room for what it proposes to look for.
PROPOSED = """
const field = document.querySelector("input[type=search]");
field.value = field.placeholder;
return field.scrollWidth <= field.clientWidth;
"""
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
    assert quiet.run(PROPOSED)


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


def two_hundred(root: Path) -> Path:
    """Epochs of a detector as a training saves them, in a directory where people have theirs."""
    for number in range(1, 201):
        metrics = {
            "train_loss": 3 / (number + 1), "val_loss": 2 + math.cos(number / 40),
            "metrics/mAP50-95(B)": math.sin(number / 40), "lr": 0.01 * 0.97**number,
            "epoch_time": 61.5, "grad_norm": 1 / number,
        }  # fmt: skip
        write_checkpoint(
            root, number, step=500 * number, metrics=metrics, parent_id=identifier(number - 1)
        )
    return root


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (360, 640)])
def test_of_two_hundred_the_best_is_on_the_first_screen_and_read_first(
    quiet: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, height: int
) -> None:
    monkeypatch.chdir(tmp_path)  # a test's own directory has a longer path than people's have
    root = two_hundred(Path("content", "drive", "MyDrive", "smartcash", "efficientnet_b4-v3"))
    quiet.open(report_of(root).resolve(), width=width, height=height)
    assert quiet.texts("#answer-name") == ["epoch-0063-step-00031500-0000003f"]
    assert quiet.texts("#answer-words")[0].startswith("metrics/mAP50-95(B) 1.0000; larger is")
    assert quiet.texts("#answer-path") == [f"{root}/epoch-0063-step-00031500-0000003f"]
    assert quiet.texts("#answer button") == ["Copy path", "Copy Python"]
    # All of it is seen before anything is scrolled, and nothing lies over it.
    seen = """const parts = document.querySelectorAll(
            "#answer-name, #answer-words, #answer-path, #answer button");
        return [...parts].map(each => {
            const {left, top, right, bottom} = each.getBoundingClientRect();
            const above = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
            return scrollY === 0 && top >= 0 && left >= 0 && right <= innerWidth
                && bottom <= innerHeight && Boolean(above?.closest("#answer"));
        })"""
    assert quiet.run(seen) == [True] * 5
    # A screen reader comes to it first, and a keyboard to its controls.
    first = quiet.run("return document.querySelector('main > *').id")
    assert first == "answer"
    quiet.tab_to("SELECT best by", most=1)
    assert quiet.run("return Number(document.documentElement.dataset.ready)") > 0
    quiet.picture(f"two-hundred-{width}")


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
    # Nothing of the night, and no advice that only a screen can follow.
    shown = "const s = getComputedStyle(document.querySelector(arguments[0])); return s"
    assert quiet.run(f"{shown}.colorScheme", "meter") == "light"
    assert quiet.run(f"{shown}.display", "#compare") == "none"
    # As wide as a page across, in the pixels of CSS.
    wide = "document.body.style.width = '1060px'; return document.querySelector('.heat')"
    assert quiet.run(f"{wide}.scrollWidth") <= 1060
    boxes = "[...document.querySelectorAll('#checkpoints tbody input')]"
    quiet.run(f"{boxes}.slice(0, 2).forEach(box => box.click())")
    assert quiet.run(f"{shown}.display", "#compare") == "block"
    quiet.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
