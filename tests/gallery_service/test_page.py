"""The search page in a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from models.images import encode_jpeg

from . import synthetic
from .conftest import RunningService

pytestmark = pytest.mark.browser

PATIENCE_S = 60
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
    "--lang=en-GB",
)  # fmt: skip


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """A headless Chromium with a profile of its own."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        if os.environ.get("CALR_REQUIRE_BROWSER") == "1":
            pytest.fail("CALR_REQUIRE_BROWSER=1, but chromium or chromedriver is missing")
        pytest.skip("chromium and chromedriver are not on this machine (Debian: apt-get install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options, Service(driver))
    yield opened
    opened.quit()


@pytest.fixture
def page(chromium: WebDriver, service: RunningService) -> WebDriver:
    """The site's page, freshly loaded."""
    chromium.get(f"{service.url}/sites/toy")
    chromium.get_log("browser")
    return chromium


@pytest.fixture
def crop(tmp_path: Path) -> Path:
    path = tmp_path / "query.jpg"
    path.write_bytes(encode_jpeg(synthetic.query_crop(2)))
    return path


def one(page: WebDriver, selector: str) -> WebElement:
    return page.find_element(By.CSS_SELECTOR, selector)


def shown(page: WebDriver) -> list[str]:
    """Tracklet ids of the matches on the page."""
    cards = page.find_elements(By.CSS_SELECTOR, "#matches .card")
    return [card.get_attribute("data-tracklet") or "" for card in cards]


def wait(page: WebDriver, condition: str) -> None:
    """Wait until a JavaScript expression is true."""
    WebDriverWait(page, PATIENCE_S, 0.05).until(lambda driver: driver.execute_script(f"return Boolean({condition})"))


def search_with(page: WebDriver, crop: Path) -> list[str]:
    one(page, "#file").send_keys(str(crop))
    wait(page, "document.querySelector('#matches .card') && !document.querySelector('[data-busy]')")
    return shown(page)


def test_an_uploaded_crop_shows_matches_with_pictures(page: WebDriver, crop: Path) -> None:
    assert one(page, "#empty").is_displayed()
    found = search_with(page, crop)
    assert len(found) == 13
    assert not one(page, "#empty").is_displayed()
    assert one(page, "#status").text == "13 matches for your picture"
    wait(page, "!document.querySelector('#preview').hidden && document.querySelector('#preview').width === 40")
    one(page, "#matches .card:last-child").location_once_scrolled_into_view  # noqa: B018 pictures load when near
    wait(page, "[...document.querySelectorAll('#matches img')].every((image) => image.naturalWidth === 40)")
    first = one(page, "#matches .card")
    assert "cam" in first.find_element(By.CLASS_NAME, "camera").text
    assert float(first.find_element(By.CLASS_NAME, "score").text) > 0.9
    times = [time.text for time in page.find_elements(By.CLASS_NAME, "when")]
    assert times.count("Time unknown") == 3
    assert sum("1 Mar 2026" in time or "Mar 1, 2026" in time for time in times) == 10
    assert any("9:10" in time or "09:10" in time for time in times)  # 08:10 UTC in Berlin
    assert "not proof of identity" in one(page, ".caution").text
    assert page.get_log("browser") == []


def test_a_clip_plays_in_the_page(page: WebDriver, crop: Path) -> None:
    search_with(page, crop)
    play = one(page, ".card:has(.play:enabled) .play")
    play.click()
    wait(page, "document.querySelector('.playing video')?.readyState >= 2")
    wait(page, "document.querySelector('.playing video').currentTime > 0.2")
    assert page.execute_script("return document.querySelector('.playing video').videoWidth") == synthetic.WIDTH
    assert play.get_attribute("aria-expanded") == "true"
    play.click()
    assert not page.find_elements(By.CSS_SELECTOR, ".playing")
    lost = page.find_elements(By.CSS_SELECTOR, ".play:disabled")
    assert [button.text for button in lost] == ["Recording gone"] * 3
    assert page.get_log("browser") == []


def test_a_match_can_be_searched_with_and_back_leads_back(page: WebDriver, crop: Path) -> None:
    before = search_with(page, crop)
    one(page, "#matches .crop").click()
    wait(page, "document.querySelector('#status').textContent.startsWith('12 matches for a match from cam')")
    after = shown(page)
    assert before[0] not in after
    assert set(after) == set(before) - {before[0]}
    page.back()
    wait(page, "document.querySelector('#status').textContent.endsWith('for your picture')")
    assert shown(page) == before


def test_filters_narrow_and_can_be_cleared(page: WebDriver, crop: Path) -> None:
    search_with(page, crop)
    one(page, 'input[value="cam2"]').click()
    one(page, "#submit").click()
    wait(page, "document.querySelectorAll('#matches .card').length === 5")
    assert {name.split("/")[0] for name in shown(page)} == {"cam1"}
    # 08:15 UTC as the site's clock shows it: only the second camera recorded later.
    page.execute_script("document.querySelector('#since').value = '2026-03-01T09:15'")
    one(page, "#submit").click()
    wait(page, "!document.querySelector('#nothing').hidden")
    assert shown(page) == []
    one(page, "#clear").click()
    wait(page, "document.querySelectorAll('#matches .card').length === 13")


def test_a_corrupt_image_shows_the_error(page: WebDriver, crop: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(crop.read_bytes()[:300])
    one(page, "#file").send_keys(str(bad))
    wait(page, "!document.querySelector('#error').hidden")
    assert "damaged" in one(page, "#error").text
    assert shown(page) == []
    # And the page goes on working.
    assert len(search_with(page, crop)) == 13
    assert not one(page, "#error").is_displayed()


def test_a_file_that_is_too_large_is_not_sent(page: WebDriver, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(10 * 1024 * 1024 + 1))
    one(page, "#file").send_keys(str(large))
    wait(page, "!document.querySelector('#error').hidden")
    assert "larger than 10 MiB" in one(page, "#error").text


def test_works_with_the_keyboard_alone(page: WebDriver, crop: Path) -> None:
    search_with(page, crop)
    one(page, "#matches .play:enabled").send_keys(Keys.ENTER)
    wait(page, "document.querySelector('.playing video')?.readyState >= 2")
    one(page, "#matches .again").send_keys(Keys.SPACE)
    wait(page, "document.querySelector('#status').textContent.startsWith('12 matches')")


def test_everything_has_a_name_and_nothing_overflows_on_a_phone(page: WebDriver, crop: Path) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        page.refresh()
        search_with(page, crop)
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert page.execute_script("return document.querySelector('#answer').getBoundingClientRect().top < innerHeight")
        nameless = page.execute_script(
            "return [...document.querySelectorAll('button, a, input, video, img, canvas')]"
            ".filter((e) => e.checkVisibility() && e.tagName !== 'IMG' || e.closest('.card') && e.tagName === 'IMG')"
            ".filter((e) => !(e.ariaLabel || e.alt || e.textContent.trim() || e.labels?.length))"
            ".map((e) => e.outerHTML)"
        )
        assert nameless == []
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_list_of_sites_leads_to_the_site(chromium: WebDriver, service: RunningService) -> None:
    chromium.get(service.url)
    assert "2 cameras" in one(chromium, ".site").text
    one(chromium, ".site").click()
    wait(chromium, "document.querySelector('#search')?.dataset.site === 'toy'")


@pytest.mark.parametrize(
    ("zone", "local", "moment"),
    [
        ("Europe/Berlin", "2026-03-01T09:00", "2026-03-01T08:00:00.000Z"),
        ("Europe/Berlin", "2026-07-01T09:00:30", "2026-07-01T07:00:30.000Z"),
        ("Europe/Berlin", "2026-03-29T03:30", "2026-03-29T01:30:00.000Z"),  # an hour after the change to summer time
        ("America/Los_Angeles", "2026-11-01T00:30", "2026-11-01T07:30:00.000Z"),
        ("Asia/Kolkata", "2026-01-01T00:00", "2025-12-31T18:30:00.000Z"),
        ("UTC", "2026-01-01T00:00", "2026-01-01T00:00:00.000Z"),
    ],
)
def test_the_clock_is_the_sites(page: WebDriver, zone: str, local: str, moment: str) -> None:
    found = page.execute_async_script(
        "const [zone, local, done] = arguments;"
        "import('/static/site_time.js').then((module) => done(module.momentOf(local, zone)));",
        zone,
        local,
    )
    assert found == moment
