"""Chromium as a person's browser: what it shows, what it complains of, what it asks the network."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.store.catalog import merge, scan
from smartcash_format.view.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
# Beside the checkout's other leftovers: CI keeps them.
PICTURES = Path(__file__).parents[2] / "artifacts" / "report"


class Browser:
    """One page at a time, with everything that it logged and asked for since it was opened."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(
        self,
        page: Path,
        *,
        width: int = 1200,
        height: int = 1400,
        dark: bool = False,
        scripts: bool = True,
    ) -> None:
        """Shows a file in a window of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(page.as_uri())
        if scripts:
            assert self.run("return document.documentElement.dataset.ready")

    def picture(self, name: str) -> None:
        """Keeps the whole page as a picture, for whoever looks at what a test saw."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        width, height = self.run(
            "return [innerWidth, Math.min(document.documentElement.scrollHeight, 8000)]"
        )
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        made = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
        )
        (PICTURES / f"{name}.png").write_bytes(base64.b64decode(made["data"]))

    def paper(self, name: str) -> bytes:
        """The page as it is printed, a PDF; kept too."""
        made = self.driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        PICTURES.mkdir(parents=True, exist_ok=True)
        data = base64.b64decode(made["data"])
        (PICTURES / f"{name}.pdf").write_bytes(data)
        return data

    def keys(self, *keys: str) -> None:
        """Presses keys, one after the other, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def tab_to(self, what: str, *, most: int = 200) -> None:
        """Presses Tab until what `focused` calls so has the focus."""
        from selenium.webdriver.common.keys import Keys

        for _ in range(most):
            self.keys(Keys.TAB)
            if self.focused() == what:
                return
        raise AssertionError(f"{most} times Tab, and never {what!r}")

    def focused(self) -> str:
        """What has the focus, in a few words: its tag, and its label or text."""
        found = self.run(
            "const e = document.activeElement;"
            "return `${e.tagName} ${e.ariaLabel || e.labels?.[0]?.innerText || e.innerText || ''}`"
        )
        assert isinstance(found, str)
        return found.split("\n")[0].strip()

    def at(self, selector: str, x: float, y: float) -> tuple[int, int]:
        """The point of the window at these parts of an element's width and height."""
        left, top, width, height = self.run(
            "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center'});"
            "const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]",
            selector,
        )
        return int(left + x * width), int(top + y * height)

    def mouse(self, kind: str, point: tuple[int, int], *, count: int = 1) -> None:
        """Moves, presses or releases the mouse at a point of the window."""
        self.driver.execute_cdp_cmd(
            "Input.dispatchMouseEvent",
            {
                "type": f"mouse{kind}", "x": point[0], "y": point[1], "clickCount": count,
                "button": "none" if kind == "Moved" else "left",
                "buttons": 0 if kind == "Released" else 1,
            },
        )  # fmt: skip

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

    def violations(self) -> list[str]:
        """What keeps somebody from using the page, as axe-core finds it: each rule, and where."""
        package = pytest.importorskip("axe_core_python", reason="no axe-core: make browser")
        script = Path(package.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
        # Through the debugger, because the page lets no script but its own run.
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": script})
        found = self.driver.execute_async_script(
            "axe.run().then(found => arguments[0](found.violations.flatMap(rule =>"
            "rule.nodes.map(node => `${rule.id}: ${node.html.slice(0, 200)}`))))"
        )
        assert isinstance(found, list)
        return found

    def requests(self) -> set[str]:
        """The addresses that were asked for since the last time."""
        messages = [json.loads(line["message"]) for line in self.driver.get_log("performance")]
        return {
            message["message"]["params"]["request"]["url"]
            for message in messages
            if message["message"]["method"] == "Network.requestWillBeSent"
        }


def report_of(*roots: Path) -> Path:
    """The report of some roots, in the directory of the first."""
    path = roots[0].parent / "report.html"
    listing = merge(scan(root) for root in roots)
    write_report(path, listing, now=datetime(2026, 2, 1, tzinfo=UTC), title=str(roots[0]))
    return path


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
