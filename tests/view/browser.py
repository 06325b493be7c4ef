"""Chromium as a person's browser: what it shows, what it complains of, what it asks the network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


class Browser:
    """One page at a time, with everything that it logged and asked for since it was opened."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int = 1200, dark: bool = False) -> None:
        """Shows a file in a window of this width."""
        size = {"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(page.as_uri())
        assert self.run("return document.documentElement.dataset.ready") == "yes"

    def run(self, script: str, *arguments: object) -> Any:
        """What a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        """The first element of a CSS selector."""
        return self.driver.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements of a CSS selector, as they are shown."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())"
        found = self.run(script, selector)
        assert isinstance(found, list)
        return found

    def choose(self, selector: str, text: str) -> None:
        """Chooses the option of this text."""
        for option in self.find(selector).find_elements("css selector", "option"):
            if option.text == text:
                option.click()
                return
        raise AssertionError(f"{selector} has no option {text!r}")

    def press(self, text: str) -> None:
        """Presses the first button that shows this text."""
        self.driver.find_element("xpath", f"//button[normalize-space()='{text}']").click()

    def complaints(self) -> list[str]:
        """What the console said since the last time."""
        return [line["message"] for line in self.driver.get_log("browser")]

    def requests(self) -> set[str]:
        """The addresses that were asked for since the last time."""
        messages = [json.loads(line["message"]) for line in self.driver.get_log("performance")]
        return {
            message["message"]["params"]["request"]["url"]
            for message in messages
            if message["message"]["method"] == "Network.requestWillBeSent"
        }


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium; the test is skipped where there is none."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium and chromedriver here: make browser")
    pytest.importorskip("selenium", reason="selenium is not installed: make browser")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = CHROMIUM
    # A container has no user namespaces and little shared memory.
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
