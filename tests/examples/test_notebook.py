"""The example notebook runs as it stands, and its outputs are those of a run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from smartcash_format import save_checkpoint
from smartcash_format.store.catalog import scan
from smartcash_format.view.notebook import listing_html

pytestmark = pytest.mark.torch

HEADING = re.compile(r"<th[^>]*>([^<]*)</th>")
NOTEBOOK = Path(__file__).parents[2] / "examples" / "checkpoints.ipynb"


def cells() -> list[dict[str, Any]]:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def test_every_cell_runs_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells():
        exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    assert "epoch-0006-" in capsys.readouterr().out
    assert names["result"]["epoch"] == 6
    assert names["best"].epoch == 6


def test_it_was_executed_whole_and_shows_html_for_every_answer() -> None:
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    outputs = [output for cell in cells() for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" for output in outputs)
    shown = [output for output in outputs if "text/html" in output.get("data", {})]
    assert len(shown) == 6


def test_it_names_no_path_of_the_machine_that_ran_it() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert re.search(r"/(?:home|root|tmp|Users)/", text) is None


def test_what_it_shows_has_the_headings_of_today(tmp_path: Path) -> None:
    shown = [
        "".join(output["data"]["text/html"])
        for cell in cells()
        if "".join(cell["source"]) == "manager.display_checkpoints()"
        for output in cell["outputs"]
    ]
    save_checkpoint(tmp_path / "one", {}, metrics={"loss": 1.0})
    today = listing_html(scan(tmp_path), None)
    # Renewed by scripts/run_notebook.py.
    assert [HEADING.findall(html) for html in shown] == [HEADING.findall(today)]
