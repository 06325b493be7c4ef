"""What a notebook shows of values: all of it, escaped, small, and as text where nobody draws."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from smartcash_format.disk.observe import validate
from smartcash_format.manager.reader import CheckpointReader
from smartcash_format.manager.shown import Shown
from smartcash_format.spec.displaying import Displayed
from smartcash_format.spec.problems import Depth
from smartcash_format.store.catalog import merge, scan
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.compare import diff
from smartcash_format.view import notebook
from smartcash_format.view.html import BAD, BEST
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
    assert html.count(BEST) == 1
    assert f'<td style="{BAD}">NaN</td>' in html
    assert 'data-v="0.24">0.2400</td>' in html
    assert ">WOS·</td>" in html
    assert "12 checkpoints" in page.texts[-1]


def rows_of(html: str) -> list[str]:
    """The first twelve characters of each row of a listing."""
    return [name[:12] for name in re.findall(r"<tr><td[^>]*>([^<]*)", html.partition("<p>")[0])]


def test_broken_ones_stand_in_their_place_however_many_there_are(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_checkpoint(tmp_path, number)
    (write_checkpoint(tmp_path, 4).parent / "epoch-0002-00000002" / "meta.json").write_bytes(b"{")
    listing = scan(tmp_path)
    ordered = ["epoch-0004-0", "epoch-0003-0", "! epoch-0002", "epoch-0001-0"]
    assert rows_of(html_of(listing)) == ordered
    assert rows_of(html_of(listing.only(reversed(list(listing))))) == ordered[::-1]
    for number in range(5, 230):
        write_checkpoint(tmp_path, number)
    html = html_of(scan(tmp_path))
    assert "! epoch-0002" in rows_of(html)
    # The reason stands below, where there is room for a sentence.
    *_, name, why = Page(html).texts[:-1]
    assert name.startswith("epoch-0002-")
    assert "meta.json: is not JSON" in why


def test_a_broken_one_alone_in_its_root_stands_there(tmp_path: Path) -> None:
    (write_checkpoint(tmp_path, 1, step=10) / "meta.json").write_bytes(b"{")
    page = Page(html_of(scan(tmp_path)))
    assert any(text.startswith("! epoch-0001-") for text in page.texts)


def test_steps_have_a_column_where_there_are_any(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1)
    assert "step" not in Page(html_of(scan(tmp_path))).texts
    write_checkpoint(tmp_path, 2, step=4321)
    (write_checkpoint(tmp_path, 3, step=5) / "meta.json").write_bytes(b"{")
    html = html_of(scan(tmp_path))
    assert {"step", "4321"} <= set(Page(html).texts)
    # Every row has as many cells as there are headings.
    table = html.partition("</table>")[0]
    assert table.count("<td") == 3 * table.count("<th ")


def test_the_metric_that_decides_is_the_first_of_them(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, metrics={f"a{n}": 0.5 for n in range(20)} | {"wanted": 1.0})
    page = Page(listing_html(scan(tmp_path), None, metric="wanted"))
    assert page.texts[:3] == ["checkpoint", "epoch", "wanted"]


def test_an_entry_says_what_the_terminal_says(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, metrics={"val_map": 0.75}, backbone="efficientnet_b4")
    (entry,) = scan(tmp_path)
    page = Page(html_of(entry))
    assert page.tags.count("table") == 3
    assert {"efficientnet_b4", "0.7500", "model.safetensors"} <= set(page.texts)


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
    page = Page(html_of(diff(one, other)))
    assert page.texts[0] == "other weights"
    assert page.tags.count("table") == 3
    assert {"loss", "2", "1", "-1", "a.w", "changed"} <= set(page.texts)


def test_a_history_shows_its_newest_events_first(tmp_path: Path) -> None:
    for number in (1, 2):
        write_checkpoint(tmp_path, number)
    page = Page(html_of(CheckpointStore(tmp_path).events()))
    names = [text for text in page.texts if text.startswith("epoch-")]
    assert [name[:10] for name in names] == ["epoch-0002", "epoch-0001"]


def test_as_text_each_is_one_short_line(tmp_path: Path) -> None:
    many = {f"layer{i}.w": (1.0, i) for i in range(700)}
    one = write_weighed(tmp_path, 1, many)
    other = write_weighed(tmp_path, 2, {name: (2.0, -n) for name, (_, n) in many.items()})
    assert (
        repr(diff(one, other)) == "Diff(weights: different, 0 metrics, 0 settings, 1 other fields)"
    )
    assert repr(validate(one, Depth.META)) == f"Report({str(one)!r}, META: valid)"
    assert repr(CheckpointStore(tmp_path).events()) == "History(2 events)"


def test_the_dicts_of_the_manager_are_dicts_that_show_html(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    reader = CheckpointReader(tmp_path)
    history, (valid, info) = reader.get_training_history(), reader.validate_checkpoint(path)
    for found in (history, info):
        assert isinstance(found, Shown)
        assert "<p" in str(found._repr_html_())
        assert json.loads(json.dumps(found, default=str))
        assert type(pickle.loads(pickle.dumps(found))) is type(copy.copy(found)) is dict
    assert info["valid"] is valid


@pytest.mark.attack("move", "scripts and markup for a notebook", "text")
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
        assert page.tags.count("script") == page.tags.count("table")
        assert len(html) < 100_000


def test_two_hundred_checkpoints_stay_below_a_hundred_kilobytes(tmp_path: Path) -> None:
    metrics = {f"metrics/mAP50-95({name})": 1 / 3 for name in "ABCDEF"}
    for number in range(1, 202):
        write_checkpoint(tmp_path, number, metrics=metrics)
    html = html_of(scan(tmp_path))
    assert len(html.encode()) < 100_000
    assert "; 1 more are not shown" in html
    assert "http" not in html


@pytest.mark.parametrize("name", ["\u202e" * 60, "<" * 240, "\U0001f600" * 60])
def test_whatever_the_names_are_it_stays_below_a_hundred_kilobytes(
    tmp_path: Path, name: str
) -> None:
    for number in range(1, 202):
        metrics = {f"{i}{name}": 1 / 3 for i in range(6)}
        write_checkpoint(tmp_path, number, name=f"{name}{number}", metrics=metrics)
    html = html_of(scan(tmp_path))
    Page(html)
    assert len(html.encode()) < 100_000
    assert "more are not shown" in html


def test_an_entry_with_a_thousand_metrics_stays_below_a_hundred_kilobytes(tmp_path: Path) -> None:
    values = {f"{'<' * 100}{i}": 1 / 3 for i in range(1_000)}
    write_checkpoint(tmp_path, 1, metrics=values, config=dict(values))
    (entry,) = scan(tmp_path)
    html = html_of(entry)
    Page(html)
    assert len(html.encode()) < 100_000
    assert "more metrics and settings are not shown" in html


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
    display(listing, best=None, root=tmp_path, metric="val_loss", mode="min")
    assert "<table" in shown[0]
    assert shown[0].index(">val_loss<") < shown[0].index(">val_map<")
    assert listing_html(listing, None).count("<tr>") == 2
    # The manager chose none: what is flagged is not marked either.
    assert BEST not in listing_html(scan(resumed_run(tmp_path / "root", 3)), None)


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


def test_a_listing_of_several_roots_says_of_each_where_it_lies(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "one", 1)
    write_checkpoint(tmp_path / "two", 2)
    torn = tmp_path / "two" / "epoch-0003-torn"
    torn.mkdir()
    (torn / "meta.json").write_text("{")
    rows = Page(listing_html(merge(scan(tmp_path / name) for name in ("one", "two")), None)).texts
    assert rows.count("root") == 1
    assert (rows.count("one"), rows.count("two")) == (1, 2)
    assert "root" not in Page(listing_html(scan(tmp_path / "two"), None)).texts
