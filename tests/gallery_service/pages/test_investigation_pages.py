"""From a search to an investigation, its timeline and map, and the audit log of it all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import yaml
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from gallery_service.indexing.build import build_gallery
from ingest.shards import list_shards
from ingest.site import SiteConfig, load_site
from ingest.workspace import Workspace
from models.images import encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import RunningService, copy_site, run_service

from .browser import barriers, one, screen, shown, wait, wait_for_answer

HTML = {"Accept": "text/html"}
HTMX = HTML | {"HX-Request": "true"}


@pytest.fixture(scope="module")
def mapped(built_gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The indexed site with a map."""
    site = copy_site(built_gallery, tmp_path_factory.mktemp("mapped"))
    cv2.imwrite(str(site.folder / "plan.png"), np.full((60, 100, 3), 230, np.uint8))
    written = yaml.safe_load(site.file.read_text())
    written["map"] = {"image": "plan.png"}
    for camera, position in zip(written["cameras"], ([0.2, 0.5], [0.8, 0.4]), strict=True):
        camera["position"] = position
    written["cameras"][0]["heading"] = 90
    site.file.write_text(yaml.safe_dump(written))
    return site.folder


@pytest.fixture(scope="module")
def service(mapped: Path) -> Iterator[RunningService]:
    with run_service(mapped) as running:
        yield running


@pytest.fixture
def crop(tmp_path: Path) -> Path:
    path = tmp_path / "query.jpg"
    path.write_bytes(encode_jpeg(synthetic.query_crop(2)))
    return path


@pytest.mark.browser
def test_a_search_becomes_an_investigation(
    chromium: WebDriver, service: RunningService, mapped: Path, crop: Path
) -> None:
    page = chromium
    page.get(f"{service.url}/sites/toy")
    page.get_log("browser")
    one(page, "#file").send_keys(str(crop))
    wait_for_answer(page, "13 matches")
    dated = [
        hit.get_attribute("id")
        for hit in page.find_elements(By.CSS_SELECTOR, "#matches .hit")
        if "unknown" not in hit.find_element(By.CLASS_NAME, "when").text
    ]
    ids = dict(zip([f"hit-{rank}" for rank in range(1, 14)], shown(page), strict=True))

    # The first hit that is confirmed begins an investigation, by keyboard.
    page.execute_script(f"document.getElementById('{dated[0]}').focus()")
    ActionChains(page).send_keys("c").perform()
    wait(page, "document.querySelector('#which-case').open")
    assert barriers(page) == []
    one(page, "#which-case [name=title]").send_keys("Grey jacket")
    one(page, "#which-case [name=purpose]").send_keys("case 12/2026")
    one(page, "#which-case .primary").click()
    wait(
        page,
        f"document.querySelector('#{dated[0]} [data-decision=confirmed]') && document.querySelector('#investigation')",
    )
    one(page, f"#{dated[1]} [data-decide=confirmed]").click()
    wait(page, f"document.querySelector('#{dated[1]} [data-decision=confirmed]')")
    page.execute_script(f"document.getElementById('{dated[2]}').focus()")
    ActionChains(page).send_keys("x").perform()
    wait(page, f"document.querySelector('#{dated[2]} [data-decision=rejected]')")
    assert one(page, ".case-count").text.split() == ["2", "confirmed", "1", "rejected"]
    assert barriers(page) == []
    # Taken back, and decided again.
    one(page, f"#{dated[2]} [data-decide=rejected]").click()
    wait(page, f"document.querySelector('#{dated[2]} [data-decision=undecided]')")
    one(page, f"#{dated[2]} [data-decide=rejected]").click()
    wait(page, f"document.querySelector('#{dated[2]} [data-decision=rejected]')")

    one(page, "[name=refined]").click()
    wait_for_answer(page, "10 matches for all that was confirmed")
    assert not {ids[name] for name in dated[:3]} & set(shown(page))

    # Another model goes live meanwhile: the page says whose answer it is, and goes on.
    before = one(page, ".answer-title .mono").text
    site = load_site(str(mapped))
    second = synthetic.add_model(site, seed=2).version
    build_gallery(site, threads=1, quiet=True)
    one(page, "#submit").click()
    wait(page, f"document.querySelector('.answer-title .mono').textContent === '{second}'")
    assert before != second
    wait_for_answer(page, "13 matches")
    assert one(page, f'[data-tracklet="{ids[dated[0]]}"] .decide').get_attribute("data-decision") == "confirmed"

    one(page, ".case-head a").click()
    wait(page, "document.querySelectorAll('.seen').length === 2")
    assert page.find_element(By.TAG_NAME, "h1").text == "Grey jacket"
    wait(page, "document.querySelector('.plan img').naturalWidth === 100")
    assert [spot.text for spot in page.find_elements(By.CLASS_NAME, "spot-name")] == ["cam1", "cam2"]
    assert len(page.find_elements(By.CSS_SELECTOR, ".lanes .bar")) == 2
    assert barriers(page) == []
    one(page, "[data-player]").click()
    wait(page, "document.querySelector('#player video').currentTime > 0.2")
    page.find_element(By.CSS_SELECTOR, "#player button").click()
    with screen(page, 360, 740, dark=True):
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert barriers(page) == []

    # Who answers for the site sees all of it, and that nothing was changed.
    page.get(f"{service.url}/sites/toy/audit?action=search")
    assert "case 12/2026" in one(page, "tbody").text
    one(page, ".page-head button").click()
    wait(page, "document.querySelector('#chain').textContent.includes('Whole')")
    assert barriers(page) == []
    assert page.get_log("browser") == []


def test_an_investigation_is_managed_on_its_page(service: RunningService) -> None:
    with httpx.Client(base_url=f"{service.url}/sites/toy", headers=HTMX) as client:
        begun = client.post("/investigations", data={"title": "Bag <b>", "purpose": "case 13", "notes": "seen twice"})
        case = begun.headers["HX-Redirect"].removeprefix("/sites/toy")
        text = client.get(case, headers={"HX-Request": "false"}).text
        assert "<h1>Bag &lt;b&gt;" in text
        assert "seen twice" in text
        assert "Nothing confirmed yet" in text
        changed = client.post(case, data={"title": "Bag", "status": "closed"})
        assert changed.status_code == 204
        assert ">Closed<" in client.get(case, headers={"HX-Request": "false"}).text
        assert "Bag" in client.get("/investigations?status=closed").text
        assert "Bag" not in client.get("/investigations").text
        refused = client.post(
            "/hits", data={"tracklet": "x", "decision": "confirmed", "investigation": case.split("/")[-1]}
        )
        assert (refused.status_code, refused.headers["HX-Retarget"]) == (409, "#toasts")
        assert "closed" in refused.text
        assert client.post("/investigations", data={"title": "", "purpose": "x"}).status_code == 422
        assert client.post(f"{case}/delete").headers["HX-Redirect"] == "/sites/toy/investigations"
        assert client.get(case).status_code == 404


def test_a_field_that_is_sent_empty_is_emptied_and_one_that_is_not_sent_stays(service: RunningService) -> None:
    with httpx.Client(base_url=f"{service.url}/sites/toy", headers=HTMX) as client:
        begun = client.post("/investigations", data={"title": "Cap", "purpose": "case 15", "notes": "seen twice"})
        case = begun.headers["HX-Redirect"].removeprefix("/sites/toy")

        def saved(**fields: str) -> tuple[str, str, list[str]]:
            assert client.post(case, data=fields).status_code == 204
            now = client.get(f"{service.url}/api/v1/sites/toy{case}").json()
            return now["title"], now["notes"], now["shared_with"]

        assert saved(title="Cap", purpose="case 15", shared_with="ben, eve") == ("Cap", "seen twice", ["ben", "eve"])
        assert saved(notes="") == ("Cap", "", ["ben", "eve"])
        assert saved(title="Hat", purpose="case 15", shared_with="") == ("Hat", "", [])


@pytest.mark.browser
def test_what_somebody_changed_meanwhile_is_not_overwritten(chromium: WebDriver, service: RunningService) -> None:
    page = chromium
    with httpx.Client(base_url=f"{service.url}/api/v1/sites/toy") as client:
        begun = {"title": "Glove", "purpose": "case 17", "notes": "seen once"}
        number = client.post("/investigations", json=begun).json()["investigation_id"]
        case = f"/investigations/{number}"
        client.patch(case, json={"shared_with": ["ben"]})
        page.get(f"{service.url}/sites/toy{case}")
        one(page, "[name=notes]").send_keys(", by the door")
        one(page, "[data-dialog=edit-case]").click()
        one(page, "#edit-case [name=title]").send_keys("s, two of them")
        client.patch(case, json={"shared_with": []})
        one(page, "#edit-case .primary").click()
        wait(page, "document.querySelector('.toast')")
        assert "Nothing was saved" in one(page, ".toast").text
        # Also above a dialog it is seen, and can be dismissed.
        one(page, ".toast [data-dismiss]").click()
        wait(page, "!document.querySelector('.toast')")
        assert one(page, "#edit-case [name=title]").get_attribute("value") == "Gloves, two of them"
        one(page, "#edit-case [aria-label=Cancel]").click()
        one(page, ".panel form .dialog-end button").click()
        wait(page, "document.querySelector('.toast')")
        assert one(page, "[name=notes]").get_attribute("value") == "seen once, by the door"
        kept = client.get(case).json()
        assert (kept["title"], kept["notes"], kept["shared_with"]) == ("Glove", "seen once", [])
        # Once the page was loaded again, it is saved.
        page.refresh()
        one(page, "[name=notes]").send_keys(" of the hall")
        one(page, ".panel form .dialog-end button").click()
        wait(page, "document.querySelector('[name=notes]').defaultValue.endsWith('of the hall')")
        page.get_log("browser")  # which tells of the refusals


def test_a_hit_that_is_missing_is_taken_out_and_nothing_decided_about_who_has_its_id(indexed_site: SiteConfig) -> None:
    with run_service(indexed_site.folder) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        cases = "/api/v1/sites/toy/investigations"
        number = client.post(cases, json={"title": "Scarf", "purpose": "case 16"}).json()["investigation_id"]
        workspace = Workspace(indexed_site)
        (shard,) = list_shards(workspace, "cam1")
        for row in shard.tracklets().to_pylist()[:2]:
            put = client.put(f"{cases}/{number}/hits/{row['tracklet_id']}", json={"decision": "confirmed"})
            assert put.status_code == 200
        synthetic.ingest_anew(workspace)
        build_gallery(indexed_site, threads=1, quiet=True)
        hits = client.get(f"{cases}/{number}").json()["hits"]
        missing, other = sorted(hits, key=lambda hit: hit["state"])
        assert (missing["state"], other["state"]) == ("missing", "present")
        page = f"/sites/toy/investigations/{number}"
        forms = {
            int(re.search(r'name="hit" value="(\d+)"', form)[1]): form  # type: ignore[index]
            for form in re.findall(rf'<form hx-post="{page}/hits".*?</form>', client.get(page).text, re.DOTALL)
        }
        assert {hit_id: "Not the same" in form for hit_id, form in forms.items()} == {
            hit["hit_id"]: hit["state"] == "present" for hit in hits
        }
        assert "Take out" in forms[missing["hit_id"]]

        def press(hit: dict[str, Any], **button: str) -> int:
            sent = {"hit": hit["hit_id"], "tracklet": hit["tracklet_id"], **button}
            return client.post(f"{page}/hits", data=sent).status_code

        assert press(missing, decision="rejected") == 404, "on a page from before"
        assert press(missing) == 303
        assert press(other, decision="rejected") == 303
        (now,) = client.get(f"{cases}/{number}").json()["hits"]
        assert (now["hit_id"], now["decision"]) == (other["hit_id"], "rejected")


def test_a_drawer_goes_on_with_an_investigation(service: RunningService) -> None:
    with httpx.Client(base_url=f"{service.url}/sites/toy", headers=HTMX) as client:
        begun = client.post("/investigations", data={"title": "Umbrella", "purpose": "case 14"})
        name = begun.headers["HX-Redirect"].split("/")[-1]
        assert "Umbrella" in client.get("/drawer").text
        assert f'value="{name}"' in client.get(f"/drawer?investigation={name}").text
        assert client.get(f"/drawer?investigation={'0' * 32}").status_code == 404
        assert re.search(
            rf'id="investigation"[^>]*value="{name}"', client.get(f"{service.url}/sites/toy?investigation={name}").text
        )
        nothing = client.post(
            "/search", data={"camera": "cam1", "refined": "1", "investigation": name}, files={"image": ("", b"")}
        )
        assert nothing.status_code == 409
