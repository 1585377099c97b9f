"""A real headless Chromium, and what tests do with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE_S = 60
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
    "--lang=en-GB",
)  # fmt: skip
AXE = Path(__file__).parent / "axe.min.js"


@contextmanager
def open_chromium(profile: Path) -> Iterator[WebDriver]:
    """Chromium with a profile of its own."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        if os.environ.get("CALR_REQUIRE_BROWSER") == "1":
            pytest.fail("CALR_REQUIRE_BROWSER=1, but chromium or chromedriver is missing")
        pytest.skip("chromium and chromedriver are not on this machine (Debian: apt-get install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options, Service(driver))
    opened.set_script_timeout(PATIENCE_S)
    try:
        yield opened
    finally:
        opened.quit()


def one(page: WebDriver, selector: str) -> WebElement:
    return page.find_element(By.CSS_SELECTOR, selector)


def wait(page: WebDriver, condition: str) -> None:
    """Wait until a JavaScript expression is true."""
    WebDriverWait(page, PATIENCE_S, 0.05).until(
        lambda driver: driver.execute_script(f"return Boolean({condition})"), f"never true: {condition}"
    )


def wait_for_answer(page: WebDriver, title: str) -> None:
    """Wait until an answer that was not waited for yet begins like this, and nothing is under way.

    The same question asked twice has the same heading twice: that of before must not be taken for the new one.
    """
    wait(
        page,
        "(heading => heading && heading !== window.lastHeading"
        f" && heading.textContent.replace(/\\s+/g, ' ').trim().startsWith('{title}')"
        " && !document.querySelector('.htmx-request')"
        " && (window.lastHeading = heading))(document.querySelector('#status'))",
    )


def shown(page: WebDriver) -> list[str]:
    """Tracklet ids of the matches on the page."""
    hits = page.find_elements(By.CSS_SELECTOR, "#matches .hit")
    return [hit.get_attribute("data-tracklet") or "" for hit in hits]


def barriers(page: WebDriver) -> list[str]:
    """What axe finds wrong with the page as it is now, of serious or critical impact."""
    if not page.execute_script("return Boolean(window.axe)"):
        page.execute_script(AXE.read_text(encoding="utf-8"))
    found: list[str] = page.execute_async_script(
        "const done = arguments[0];"
        "axe.run(document, {resultTypes: ['violations']}).then(({violations}) => done(violations"
        ".filter((one) => ['serious', 'critical'].includes(one.impact))"
        ".map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 200)} ${one.nodes[0].failureSummary}`)))"
    )
    return found


@contextmanager
def screen(page: WebDriver, width: int, height: int, dark: bool = False) -> Iterator[None]:
    """Another screen: a phone where it is narrow, by night where it is dark."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    colours = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": colours})
    try:
        yield
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
