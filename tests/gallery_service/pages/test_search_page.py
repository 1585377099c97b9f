"""The page that searches, in a real browser and without one."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx
import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver

from gallery_service.indexing.build import build_gallery
from gallery_service.pages.rendering import templates
from gallery_service.pages.site_clock import SiteClock
from gallery_service.schemas import Match
from models.images import encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import RunningService, run_service

from .browser import barriers, one, screen, shown, wait, wait_for_answer

HTML = {"Accept": "text/html"}


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


def give(page: WebDriver, picture: Path, event: str, target: str) -> None:
    """Dispatch an event that carries a file, as dropping and pasting do."""
    page.execute_script(
        "const [bytes, target] = arguments; const given = new DataTransfer();"
        "const content = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));"
        "given.items.add(new File([content], 'given.jpg', {type: 'image/jpeg'}));"
        f"document.querySelector(target).dispatchEvent({event});",
        base64.b64encode(picture.read_bytes()).decode(),
        target,
    )


@pytest.mark.browser
def test_from_a_picture_to_hits_their_clips_and_on(page: WebDriver, crop: Path) -> None:
    assert one(page, "#empty").is_displayed()
    assert barriers(page) == []
    one(page, "#file").send_keys(str(crop))
    wait_for_answer(page, "13 matches for your picture")
    first = shown(page)
    assert len(first) == 13
    wait(page, "document.querySelector('#pictures canvas').width === 40")
    one(page, "#matches .hit:last-child").location_once_scrolled_into_view  # noqa: B018 pictures load when near
    wait(page, "[...document.querySelectorAll('#matches img')].every((image) => image.naturalWidth === 40)")
    assert float(one(page, "#matches .likeness").text) > 0.9
    times = [time.text for time in page.find_elements(By.CSS_SELECTOR, "#matches .when")]
    assert times.count("Time unknown") == 3
    assert sum(time.startswith("1 Mar 2026\n09:") for time in times) == 10  # 08:10 UTC and later, in Berlin
    assert len(page.find_elements(By.CSS_SELECTOR, ".lanes .bar")) == 10
    assert "not proof of identity" in one(page, ".caution").text
    assert barriers(page) == []

    # The clip: under the pointer, and large.
    ActionChains(page).move_to_element(one(page, ".hit-picture[data-clip]")).perform()
    wait(page, "document.querySelector('.hit-clip.ready')?.muted")
    one(page, ".hit-picture[data-clip]").click()
    wait(page, "document.querySelector('#viewer video').currentTime > 0.2")
    assert page.execute_script("return document.querySelector('#viewer video').videoWidth") == synthetic.WIDTH
    assert page.find_elements(By.CLASS_NAME, "hit-clip") == []
    assert barriers(page) == []

    # On with a hit, from the large view; Back leads back to the answer and its question.
    one(page, "#viewer [data-again]").click()
    wait_for_answer(page, "12 matches for a hit from cam")
    after = shown(page)
    assert len(set(first) - set(after)) == 1
    assert one(page, "#asked-hit img").is_displayed()
    assert page.find_elements(By.CSS_SELECTOR, "#pictures canvas") == []
    page.back()
    wait_for_answer(page, "13 matches for your picture")
    assert shown(page) == first
    assert page.find_elements(By.CSS_SELECTOR, "#asked-hit img") == []
    assert len(page.find_elements(By.CSS_SELECTOR, "#pictures canvas")) == 1
    # What came back still works.
    one(page, "#matches .hit:nth-child(2) [data-again]").click()
    wait_for_answer(page, "12 matches for a hit from cam")
    assert page.get_log("browser") == []


@pytest.mark.browser
def test_filters_become_chips_and_mistakes_are_told(page: WebDriver, crop: Path, tmp_path: Path) -> None:
    one(page, "#file").send_keys(str(crop))
    wait_for_answer(page, "13 matches")
    one(page, 'input[value="cam2"]').click()
    one(page, "#submit").click()
    wait_for_answer(page, "5 matches")
    assert {name.split("/")[0] for name in shown(page)} == {"cam1"}
    # 08:15 UTC as the site's clock shows it: only the second camera recorded later.
    page.execute_script("document.querySelector('[name=since]').value = '2026-03-01T09:15'")
    one(page, "#submit").click()
    wait_for_answer(page, "0 matches")
    assert one(page, "#nothing").is_displayed()
    chips = page.find_elements(By.CLASS_NAME, "chip")
    assert [chip.text for chip in chips] == ["not cam2", "from 1 Mar 2026, 09:15:00"]
    chips[0].click()
    wait_for_answer(page, "5 matches")
    assert {name.split("/")[0] for name in shown(page)} == {"cam2"}
    assert one(page, 'input[value="cam2"]').is_selected()
    page.execute_script("document.querySelector('[name=until]').value = '2026-03-01T09:10'")
    one(page, "#submit").click()
    wait(page, "document.querySelector('#answer .alert')?.textContent.includes('swap them')")
    assert shown(page) == []

    # Pictures that are none, or too large, and a page that goes on working.
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(crop.read_bytes()[:300])
    page.refresh()
    one(page, "#file").send_keys(str(bad))
    wait(page, "document.querySelector('#answer .alert')?.textContent.includes('damaged')")
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(10 * 1024 * 1024 + 1))
    one(page, "#file").send_keys(str(large))
    wait(page, "document.querySelector('.toast')?.textContent.includes('larger than 10 MiB')")
    one(page, "#file").send_keys(str(crop))
    wait_for_answer(page, "13 matches")


@pytest.mark.browser
def test_a_box_in_a_frame_and_several_pictures(page: WebDriver, crop: Path, tmp_path: Path) -> None:
    frame = tmp_path / "frame.png"
    picture = synthetic.frame_at(1, [synthetic.Walk(2, 0.0, 10.0)], 3.3)
    frame.write_bytes(encode_jpeg(np.ascontiguousarray(np.kron(picture, np.ones((2, 2, 1), np.uint8)))))
    one(page, "#file").send_keys(str(frame))
    wait(page, "document.querySelector('#picker').open")
    assert not one(page, "#picker-use").is_enabled()
    assert barriers(page) == []
    stage = one(page, "#picker-stage")
    x1, y1, x2, y2 = synthetic.Walk(2, 0.0, 10.0).box(3.3)
    scale = stage.size["width"] / synthetic.WIDTH
    middle = stage.size["width"] / 2, stage.size["height"] / 2
    begin = round(x1 * scale - middle[0]), round(y1 * scale - middle[1])
    drag = ActionChains(page).move_to_element_with_offset(stage, *begin).click_and_hold()
    drag.move_by_offset(round((x2 - x1) * scale), round((y2 - y1) * scale)).release().perform()
    one(page, ".picker-box").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    one(page, "#picker-use").click()
    wait_for_answer(page, "13 matches for your picture")
    boxed = shown(page)
    assert float(one(page, "#matches .likeness").text) > 0.9
    ratio = page.execute_script("const c = document.querySelector('#pictures canvas'); return c.width / c.height")
    assert ratio == pytest.approx((x2 - x1) / (y2 - y1), abs=0.05)

    # Dropped on the pictures, it is another one of the same person; pasted, a new question.
    give(page, crop, "new DragEvent('drop', {dataTransfer: given, bubbles: true, cancelable: true})", "#pictures")
    wait_for_answer(page, "13 matches for your 2 pictures")
    assert sorted(shown(page)) == sorted(boxed)
    one(page, ".picture-remove").click()
    assert len(page.find_elements(By.CSS_SELECTOR, "#pictures canvas")) == 1
    give(page, crop, "new ClipboardEvent('paste', {clipboardData: given, bubbles: true, cancelable: true})", "body")
    wait_for_answer(page, "13 matches for your picture")
    assert len(page.find_elements(By.CSS_SELECTOR, "#pictures canvas")) == 1


@pytest.mark.browser
def test_with_the_keyboard_alone_by_night_and_on_a_phone(page: WebDriver, crop: Path) -> None:
    keys = ActionChains(page)
    one(page, "#file").send_keys(str(crop))
    wait_for_answer(page, "13 matches")
    focused = "document.activeElement.closest('.hit')?.id"
    page.execute_script("document.activeElement.blur()")
    keys.send_keys(Keys.ARROW_RIGHT).perform()
    wait(page, f"{focused} === 'hit-1'")
    keys.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN).perform()
    columns = page.execute_script(
        "const all = [...document.querySelectorAll('.hit')];"
        "return all.filter((hit) => hit.offsetTop === all[0].offsetTop).length"
    )
    assert page.execute_script(f"return {focused}") == f"hit-{2 + columns}"
    keys.send_keys("?").perform()
    wait(page, "document.querySelector('#keys').open")
    assert barriers(page) == []
    keys.send_keys(Keys.ESCAPE).perform()
    playable = page.execute_script("return document.querySelector('.hit:has([data-clip])').id")
    page.execute_script(f"document.getElementById('{playable}').focus()")
    keys.send_keys(Keys.SPACE).perform()
    wait(page, "document.querySelector('.hit-clip.ready')")
    keys.send_keys(Keys.SPACE).perform()
    assert page.find_elements(By.CLASS_NAME, "hit-clip") == []
    keys.send_keys(Keys.ENTER).perform()
    wait(page, "document.querySelector('#viewer').open")
    keys.send_keys(Keys.ARROW_RIGHT, Keys.ESCAPE).perform()
    wait(page, "!document.querySelector('#viewer').open")
    wait(page, f"{focused} === 'hit-{int(playable[4:]) + 1}'")
    keys.send_keys("s").perform()
    wait_for_answer(page, "12 matches for a hit")
    keys.send_keys("/").perform()
    assert page.execute_script("return document.activeElement.id") == "file"

    with screen(page, 1440, 900, dark=True):
        assert barriers(page) == []
    with screen(page, 360, 740):
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert barriers(page) == []
        page.refresh()
        one(page, "#file").send_keys(str(crop))
        wait_for_answer(page, "13 matches")
        assert page.execute_script("return document.querySelector('#status').getBoundingClientRect().top < innerHeight")
    assert page.get_log("browser") == []


def test_without_a_script_the_form_answers_with_a_page(service: RunningService, crop: Path) -> None:
    with httpx.Client(base_url=service.url, headers=HTML) as client:
        fields = {"camera": ["cam1", "cam2"], "top_k": "3"}
        answer = client.post("/sites/toy/search", data=fields, files={"image": crop.read_bytes()})
        assert answer.status_code == 200
        assert answer.text.count('class="hit"') == 3
        assert answer.text.startswith("<!doctype html>")
        part = client.post(
            "/sites/toy/search", data=fields, files={"image": crop.read_bytes()}, headers={"HX-Request": "true"}
        )
        assert part.text.count('class="hit"') == 3
        assert "<html" not in part.text
        # A file field that was left empty, as browsers send it.
        nothing = client.post("/sites/toy/search", data=fields, files={"image": ("", b"", "application/octet-stream")})
        assert nothing.status_code == 422
        assert "nothing to look for" in nothing.text
        assert "<!doctype html>" in nothing.text


def test_a_notice_is_shown_with_the_answer(tmp_path: Path, crop: Path) -> None:
    site = synthetic.build_site(tmp_path / "toy", cameras=1)
    build_gallery(site, threads=1, quiet=True)
    with run_service(site.folder) as running:
        answer = httpx.post(
            f"{running.url}/sites/toy/search", data={"camera": "cam1"}, files={"image": crop.read_bytes()}, headers=HTML
        )
    assert answer.status_code == 200
    assert "This site has one camera" in answer.text


@pytest.mark.parametrize(("probability", "shown"), [(None, ">0.912<"), (0.874, ">87 %<"), (0.0, ">0 %<")])
def test_how_likely_a_match_is_or_its_score_where_nobody_can_say(probability: float | None, shown: str) -> None:
    match = Match(
        tracklet_id="cam1/x/1", camera_id="cam1", first_seen=None, last_seen=None, score=0.9123,
        probability=probability, crop_url="/crop", clip_url=None,
    )  # fmt: skip
    text = templates.get_template("search/hit.html").render(
        match=match, rank=1, clock=SiteClock("UTC"), info={"site": "toy"}, answer={"query_id": "q"},
        case={"decisions": {}}, icon=lambda name: "", decide=lambda *given: "",
    )  # fmt: skip
    assert shown in text
    assert "Time unknown" in text


@pytest.mark.parametrize("path", ["/sites/absent", "/absent", "/sites/toy/absent"])
def test_a_wrong_address_is_a_page_for_people_and_json_for_programs(service: RunningService, path: str) -> None:
    page = httpx.get(service.url + path, headers=HTML)
    assert page.status_code == 404
    assert "Not found" in page.text
    assert 'href="/"' in page.text
    assert httpx.get(service.url + path).json()["detail"]
