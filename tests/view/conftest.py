"""One Chromium for every test that wants it, and a report to open in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.view.browser import Browser, browser, report_of
from tests.view.roots import resumed_run


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def quiet(chromium: Browser) -> Iterator[Browser]:
    """A page that, whatever a test did in it, neither complained nor asked for anything."""
    chromium.complaints()
    chromium.requests()
    yield chromium
    assert chromium.complaints() == []
    assert all(address.startswith("file:") for address in chromium.requests())


@pytest.fixture
def opened(quiet: Browser, tmp_path: Path) -> Browser:
    """The report of a resumed run of twelve."""
    quiet.open(report_of(resumed_run(tmp_path / "root")))
    return quiet
