"""The pages of those who run a site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from gallery_service.indexing.build import build_gallery
from ingest.site import load_site
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import RunningService, copy_site, run_service

from .browser import barriers, one, screen, wait

HTMX = {"Accept": "text/html", "HX-Request": "true"}


@pytest.fixture(scope="module")
def folder(built_gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_site(built_gallery, tmp_path_factory.mktemp("run")).folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[RunningService]:
    with run_service(folder) as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{service.url}/sites/toy/admin", headers=HTMX) as opened:
        yield opened


@pytest.mark.browser
def test_each_page_can_be_read_by_everybody(chromium: WebDriver, service: RunningService) -> None:
    chromium.get(f"{service.url}/sites/toy/admin/cameras")
    chromium.get_log("browser")
    found = {}
    for name in ("cameras", "models", "jobs", "erasures"):
        one(chromium, f'.segments a[href$="/{name}"]').click()
        wait(chromium, f"location.pathname.endsWith('/{name}') && document.querySelector('h1')")
        found[name] = barriers(chromium)
        with screen(chromium, 360, 740, dark=True):
            found[f"{name} on a phone"] = barriers(chromium)
            assert chromium.execute_script("return document.documentElement.scrollWidth <= innerWidth"), name
    assert {name: problems for name, problems in found.items() if problems} == {}
    assert chromium.get_log("browser") == []


def test_cameras_and_jobs_say_what_is_there(client: httpx.Client) -> None:
    cameras = client.get("/cameras").text
    assert cameras.count('<th scope="row">cam') == 2
    assert "1 Mar 2026, 09:10:00" in cameras
    jobs = client.get("/jobs").text
    assert jobs.count("has not run") == 3  # only the index was made
    assert ">done<" in jobs


def test_a_model_can_be_taken_back_once(client: httpx.Client, folder: Path) -> None:
    site = load_site(str(folder))
    first = client.get("/models").text.split('<h2 class="mono">')[1].split("<")[0]
    second = synthetic.add_model(site, seed=2).version
    build_gallery(site, threads=1, quiet=True)
    cards = client.get("/models").text.split("<section")[1:]
    assert [second in cards[0], "answers searches" in cards[0], "Go back" in cards[0]] == [True, True, False]
    assert [first in cards[1], "answers searches" in cards[1], "Go back" in cards[1]] == [True, False, True]
    refused = client.post("/models/rollback", data={"version": second})
    assert (refused.status_code, "look again" in refused.text) == (409, True)
    assert client.post("/models/rollback", data={"version": first}).headers["HX-Redirect"].endswith("/admin/models")
    assert client.post("/models/rollback", data={"version": first}).status_code == 409
    cards = client.get("/models").text.split("<section")[1:]
    assert ["answers searches" in card for card in cards] == [False, True]
    audit = client.get(str(client.base_url).replace("admin/", "audit")).text
    assert audit.count("model.rolled_back") == 1, "what was refused did not happen"


def test_what_is_erased_is_shown_first_and_goes_when_that_is_confirmed(client: httpx.Client) -> None:
    wanted = {"camera": "cam1", "since": "2026-03-01T09:10:00", "until": "2026-03-01T09:10:01", "reason": "asked for"}
    shown = client.post("/erasures", data=wanted).text
    assert "1 tracklet with 4 crops would go" in shown
    assert "Nothing was erased yet" in client.get("/erasures").text
    assert client.post("/erasures", data=wanted | {"confirmed": "true"}).headers["HX-Redirect"].endswith("/erasures")
    page = client.get("/erasures").text
    assert "nothing left" in page
    assert "asked for" in page
    assert "Nothing like that is there" in client.post("/erasures", data=wanted).text
    refused = client.post("/erasures", data={"reason": "of nothing"})
    assert (refused.status_code, refused.headers["HX-Retarget"]) == (422, "#toasts")
