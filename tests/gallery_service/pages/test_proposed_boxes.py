"""The people that the site's detector finds in a frame, chosen with the mouse and with keys, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement

from ingest.video import frames
from models.images import encode_jpeg
from tests.gallery_service.conftest import RunningService, copy_site, run_service

from .browser import barriers, one, screen, wait, wait_for_answer

pytestmark = [pytest.mark.browser, pytest.mark.shared_data]

DRAWN = "document.querySelector('#pictures canvas')"


@pytest.fixture(scope="module")
def seen(shared_data: Path) -> NDArray[np.uint8]:
    """A frame with several people in it."""
    return next(one.image for one in frames(shared_data / "footage/plaza/cam1.mp4") if one.index >= 100)


@pytest.fixture(scope="module")
def proposing(
    built_gallery: Path, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    """The indexed site, whose people are found by YOLO."""
    site = copy_site(built_gallery, tmp_path_factory.mktemp("proposing"))
    weights = shared_data / "weights/yolov8n_int8_openvino_model"
    content = yaml.safe_load(site.file.read_text())
    site.file.write_text(yaml.safe_dump(content | {"detector": {"weights": str(weights)}}))
    with run_service(site.folder) as running:
        yield running


@pytest.fixture
def proposals(
    chromium: WebDriver, proposing: RunningService, seen: NDArray[np.uint8], tmp_path: Path
) -> list[WebElement]:
    """What is proposed for that frame, in the order of the keys."""
    chromium.get(f"{proposing.url}/sites/toy")
    chromium.get_log("browser")
    picture = tmp_path / "frame.jpg"
    picture.write_bytes(encode_jpeg(seen))
    one(chromium, "#file").send_keys(str(picture))
    wait(chromium, "document.querySelector('.picker-state').textContent.includes(' found. Choose one, or draw a box.')")
    return chromium.find_elements(By.CSS_SELECTOR, ".picker-found button")


def wide(page: WebDriver, proposal: WebElement) -> float:
    """How wide a proposal is for its height, in pixels of the frame."""
    ratio: float = page.execute_script(
        "const {width, height} = arguments[0].style; const frame = document.querySelector('#picker-stage canvas');"
        "return parseFloat(width) * frame.width / (parseFloat(height) * frame.height)",
        proposal,
    )
    return ratio


def asked_with(page: WebDriver) -> float:
    """How wide the part is that was searched with, for its height."""
    ratio: float = page.execute_script(
        "const c = document.querySelector('#pictures canvas'); return c.width / c.height"
    )
    return ratio


def test_a_click_on_somebody_searches_for_them(chromium: WebDriver, proposals: list[WebElement]) -> None:
    assert len(proposals) >= 2
    lefts = [proposal.location["x"] for proposal in proposals]
    assert lefts == sorted(lefts)
    assert barriers(chromium) == []
    expected = wide(chromium, proposals[1])
    proposals[1].click()
    wait_for_answer(chromium, "13 matches for your picture")
    assert not one(chromium, "#picker").get_attribute("open")
    assert asked_with(chromium) == pytest.approx(expected, rel=0.1)
    assert chromium.get_log("browser") == []


def test_with_keys_alone(chromium: WebDriver, proposals: list[WebElement]) -> None:
    keys = ActionChains(chromium)
    expected = wide(chromium, proposals[1])
    keys.send_keys(Keys.TAB, Keys.TAB).perform()
    assert chromium.switch_to.active_element == proposals[1]
    assert proposals[1].get_attribute("aria-label") == "Person 2"
    keys.send_keys(Keys.ENTER).perform()
    wait_for_answer(chromium, "13 matches for your picture")
    assert asked_with(chromium) == pytest.approx(expected, rel=0.1)

    # What was chosen can be made to fit better, with keys as well.
    part = one(chromium, ".picture-crop")
    part.send_keys(Keys.ENTER)
    wait(chromium, "document.querySelectorAll('.picker-found button').length")
    frame = one(chromium, ".picker-box")
    assert frame.is_displayed()
    size = frame.size
    frame.send_keys(Keys.SHIFT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert frame.size["width"] > size["width"]
    one(chromium, "#picker-use").send_keys(Keys.ENTER)
    wait(chromium, "!document.querySelector('#picker').open")
    wait_for_answer(chromium, "13 matches for your picture")
    assert asked_with(chromium) > 1.1 * expected

    # Left without a choice: nothing is asked, and the picture stays as it was.
    before = asked_with(chromium)
    part = one(chromium, ".picture-crop")
    part.send_keys(Keys.ENTER)
    wait(chromium, "document.querySelector('#picker').open")
    keys.send_keys(Keys.ESCAPE).perform()
    wait(chromium, "!document.querySelector('#picker').open")
    assert asked_with(chromium) == before
    assert chromium.get_log("browser") == []


def test_a_box_drawn_over_proposals_is_what_counts_and_a_finger_meets_who_is_far_away(
    chromium: WebDriver, proposals: list[WebElement]
) -> None:
    stage = one(chromium, "#picker-stage")
    width, height = stage.size["width"], stage.size["height"]
    drag = ActionChains(chromium).move_to_element_with_offset(proposals[0], 0, 0).click_and_hold()
    drag.move_by_offset(width // 5, height // 10).release().perform()
    assert one(chromium, "#picker").get_attribute("open"), "a box that begins on somebody is not a click on them"
    assert one(chromium, "#picker-use").is_enabled()
    with screen(chromium, 390, 800, dark=True):
        meets = chromium.execute_script(
            "return [...document.querySelectorAll('.picker-found button')].every((one) => {"
            "  const {left, right, top, bottom} = one.getBoundingClientRect();"
            "  const x = Math.max(left, right) + Math.max(0, 28 - (right - left)) / 2 - 1;"
            "  return document.elementFromPoint(Math.min(x, innerWidth - 1), (top + bottom) / 2) === one; })"
        )
        assert meets
        assert barriers(chromium) == []
