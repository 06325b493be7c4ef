"""What a notebook shows of values: all of it, escaped, small, and as text where nobody draws."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from smartcash_format.disk.observe import validate
from smartcash_format.spec.displaying import Displayed
from smartcash_format.spec.problems import Depth
from smartcash_format.store.catalog import scan
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.compare import diff
from smartcash_format.view import notebook
from smartcash_format.view.notebook import display, listing_html
from tests.store.checkpoints import write_checkpoint, write_weighed
from tests.view.roots import SCRIPT, hostile, resumed_run

VOID = frozenset({"br", "hr"})


class Page(HTMLParser):
    """What HTML says: its tags balanced, its texts and its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: set[str] = set()
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def html_of(value: Displayed) -> str:
    html = value._repr_html_()
    assert html is not None
    return html


def test_a_listing_is_a_table_with_the_best_marked_and_values_to_sort_by(tmp_path: Path) -> None:
    listing = scan(resumed_run(tmp_path / "root"))
    html = html_of(listing)
    page = Page(html)
    assert page.tags.count("tr") == 13
    assert html.count("border-left") == 1
    assert 'data-v="0.24">0.2400</td>' in html
    assert ">NaN</td>" in html
    assert ">WOS·</td>" in html
    assert "12 checkpoints" in page.texts[-1]


def test_a_broken_one_stands_in_the_table_with_its_reason(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1)
    (write_checkpoint(tmp_path, 2) / "meta.json").write_bytes(b"{")
    assert "! epoch-0002-" in html_of(scan(tmp_path))


def test_an_entry_says_what_the_terminal_says(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, metrics={"val_map": 0.75}, backbone="efficientnet_b4")
    (entry,) = scan(tmp_path)
    html = html_of(entry)
    assert "efficientnet_b4" in html
    assert "0.7500" in html


def test_a_validation_shows_every_problem_and_what_to_do(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    (path / "model.safetensors").unlink()
    report = validate(path, Depth.META)
    page = Page(html_of(report))
    assert "file-missing" in page.texts
    assert page.tags.count("tr") == 1 + len(report.problems)
    whole = replace(report, problems=())
    assert "✓" in html_of(whole)


def test_a_diff_shows_the_verdict_and_the_changes(tmp_path: Path) -> None:
    one = write_weighed(tmp_path, 1, {"a.w": (1.0, 1)}, metrics={"loss": 2.0})
    other = write_weighed(tmp_path, 2, {"a.w": (2.0, 2)}, metrics={"loss": 1.0})
    html = html_of(diff(one, other))
    assert "loss" in html
    assert "a.w" in html


def test_a_history_shows_its_newest_events_first(tmp_path: Path) -> None:
    for number in (1, 2):
        write_checkpoint(tmp_path, number)
    page = Page(html_of(CheckpointStore(tmp_path).events()))
    names = [text for text in page.texts if text.startswith("epoch-")]
    assert [name[:10] for name in names] == ["epoch-0002", "epoch-0001"]


def test_foreign_text_is_text_everywhere(tmp_path: Path) -> None:
    root = hostile(tmp_path / "root")
    listing = scan(root)
    names = {f"{SCRIPT}{'x' * 150}": 1.0, "a\x1b[31m.w": 1.0}
    one = write_weighed(tmp_path, 1, {SCRIPT: 1.0}, config={SCRIPT: SCRIPT}, metrics=names)
    other = write_weighed(tmp_path, 2, {"b\u202e.w": 1.0}, config={"y" * 9_000: SCRIPT})
    events = CheckpointStore(root).events()
    for shown in (listing, listing[0], diff(one, other), validate(one, Depth.META), events):
        html = html_of(shown)
        page = Page(html)
        assert SCRIPT not in html
        assert "img" not in page.tags
        assert not any(name.startswith("on") for name in page.attributes)
        assert "\x1b" not in html
        assert "\u202e" not in html
        assert page.tags.count("script") <= 1
        assert len(html) < 100_000


def test_two_hundred_checkpoints_stay_below_a_hundred_kilobytes(tmp_path: Path) -> None:
    metrics = {f"metrics/mAP50-95({name})": 1 / 3 for name in "ABCDEF"}
    for number in range(1, 202):
        write_checkpoint(tmp_path, number, metrics=metrics)
    html = html_of(scan(tmp_path))
    assert len(html.encode()) < 100_000
    assert "; 1 more are not shown" in html
    assert "http" not in html


def test_infinite_and_missing_metrics_have_a_place(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, metrics={"a": math.inf})
    write_checkpoint(tmp_path, 2, metrics={"b": 1.0})
    assert ">∞</td>" in html_of(scan(tmp_path))


def test_an_empty_root_says_so(tmp_path: Path) -> None:
    assert "0 checkpoints" in html_of(scan(tmp_path))


def test_outside_of_a_notebook_the_table_is_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path, 1)
    display(scan(tmp_path), best=None, root=tmp_path)
    assert "epoch-0001-" in capsys.readouterr().out


def test_in_a_notebook_the_table_is_html(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Display:
        HTML = str
        display = staticmethod(shown.append)

    class Console:
        is_jupyter = True

    monkeypatch.setitem(sys.modules, "IPython", Display)
    monkeypatch.setitem(sys.modules, "IPython.display", Display)
    monkeypatch.setattr(notebook, "Console", Console)
    write_checkpoint(tmp_path, 1)
    listing = scan(tmp_path)
    display(listing, best=None, root=tmp_path)
    assert "<table" in shown[0]
    assert listing_html(listing).count("<tr>") == 2


def test_the_front_door_draws_where_a_notebook_may_be_and_loads_no_torch() -> None:
    program = (
        "import sys, types; sys.modules['IPython'] = types.ModuleType('IPython');"
        "from smartcash_format import Depth, validate;"
        "print(validate('nowhere', Depth.META)._repr_html_() is not None, 'torch' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )  # fmt: skip
    assert ran.stdout == "True False\n"


def test_a_value_that_nobody_draws_is_shown_as_text() -> None:
    class Other(Displayed):
        pass

    assert Other()._repr_html_() is None
