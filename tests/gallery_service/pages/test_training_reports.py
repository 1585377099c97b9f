"""The report of the run that a model came from: for admins, recorded, harmless, and without who was erased."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from selenium.webdriver.remote.webdriver import WebDriver

from gallery_service.audit.trail import EntryFilter
from gallery_service.caller import LOCAL
from gallery_service.errors import NotFound
from gallery_service.indexing.build import build_gallery
from gallery_service.pictures.training_reports import has_report, read_report
from gallery_service.search.site_search import SiteSearch
from gallery_service.settings import ServiceSettings
from ingest.erasures import Erasure, add_erasures
from ingest.shards import list_shards
from ingest.site import SiteConfig, load_site
from ingest.workspace import Workspace
from models.bundle import ModelStore
from models.images import encode_jpeg
from models.reid import build_reid
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import RunningService, copy_site, run_service

from .browser import one, wait

PICTURE = base64.b64encode(encode_jpeg(synthetic.query_crop(0))).decode()
PAGE = f"""<!doctype html><title>A run</title><style>body {{ background: rgb(1, 2, 3) }}</style>
<img id="crop" src="data:image/jpeg;base64,{PICTURE}"><img id="pixel" src="/static/icon.svg">
<script>document.title = "It ran"; fetch("/api/v1/me")</script>
<img src="x" onerror="document.title = 'It ran'"><meta http-equiv="refresh" content="0; url=/sites">
<form action="/sign-out" method="post"><button id="send">Send</button></form>"""


def write_run(site: SiteConfig, run_id: str = "r-1") -> Path:
    """A finished run that learned from all shards, a minute ago."""
    workspace = Workspace(site)
    run = workspace.runs / run_id
    run.mkdir(parents=True)
    shards = [f"{shard.camera_id}/{shard.path.name}" for shard in list_shards(workspace)]
    (run / "shards.json").write_text(json.dumps({"schema": 1, "shards": shards}))
    (run / "run.json").write_text("{}")
    (run / "report.html").write_text(PAGE)
    os.utime(run / "shards.json", (time.time() - 60, time.time() - 60))
    return run


@pytest.fixture(scope="module")
def trained(built_gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The indexed site, whose model says that it was trained by r-1."""
    site = copy_site(built_gallery, tmp_path_factory.mktemp("trained"))
    write_run(site)
    torch.manual_seed(3)
    store = ModelStore(Workspace(site).models)
    store.promote(store.add(build_reid("osnet_x0_25").eval(), synthetic.INPUT_SIZE, training_run="r-1").version)
    build_gallery(site, threads=1, quiet=True)
    return site.folder


@pytest.fixture(scope="module")
def service(trained: Path) -> Iterator[RunningService]:
    with run_service(trained) as running:
        yield running


def report_address(service: RunningService) -> str:
    page = httpx.get(f"{service.url}/sites/toy/admin/models").text
    return service.url + page.split('/report"')[0].rsplit('href="', 1)[1] + "/report"


def test_it_is_served_under_a_policy_of_its_own_and_recorded(service: RunningService, trained: Path) -> None:
    address = report_address(service)
    for _ in range(2):
        answer = httpx.get(address)
        assert (answer.status_code, answer.text) == (200, PAGE)
    policy = answer.headers.get_list("content-security-policy")
    assert policy == [
        "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "script-src 'self'" in httpx.get(f"{service.url}/sites/toy").headers["content-security-policy"]
    for wrong in ("no-such-model", "..%2F..%2Fruns%2Fr-1", "%2e%2e"):
        assert httpx.get(f"{service.url}/sites/toy/admin/models/{wrong}/report").status_code in (404, 405), wrong
    search = SiteSearch(load_site(str(trained)), ServiceSettings(threads=1))
    entries = [entry for entry, _ in search.audit.newest(EntryFilter(action="report"), None, 10)]
    search.close()
    assert [json.loads(entry.details)["training_run"] for entry in entries] == ["r-1"], "twice within minutes is once"


@pytest.mark.browser
def test_a_manipulated_one_can_do_nothing_in_a_browser(chromium: WebDriver, service: RunningService) -> None:
    chromium.get(report_address(service))
    wait(chromium, "document.querySelector('#crop').naturalWidth === 40")
    background = "return getComputedStyle(document.body).backgroundColor"
    assert chromium.execute_script(background) == "rgb(1, 2, 3)"
    one(chromium, "#send").click()
    time.sleep(0.5)  # for what should not happen
    assert chromium.title == "A run"
    assert chromium.current_url.endswith("/report")
    assert chromium.execute_script("return document.querySelector('#pixel').naturalWidth") == 0
    assert chromium.execute_script("return origin") == "null"


def test_a_run_is_found_by_its_name_and_by_nothing_else(site: SiteConfig, tmp_path: Path) -> None:
    workspace = Workspace(site)
    with pytest.raises(NotFound):
        read_report(workspace, "r-1", ())
    run = write_run(site)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "report.html").write_text("secret")
    (workspace.runs / "linked").symlink_to(secret)
    (workspace.runs / "leads-away").mkdir()
    (workspace.runs / "leads-away" / "report.html").symlink_to(secret / "report.html")
    (workspace.runs / "pipe").mkdir()
    os.mkfifo(workspace.runs / "pipe" / "report.html")
    assert read_report(workspace, "r-1", ()) == PAGE
    names = ("linked", "leads-away", "pipe", "../../secret", str(secret), "..", ".", "", "r-1/", None, 7, ["r-1"])
    for name in names:
        with pytest.raises(NotFound, match="no report of the run"):
            read_report(workspace, name, ())
    assert has_report(workspace, "r-1")
    assert not any(has_report(workspace, name) for name in ("linked", "..", None))
    (run / "report.html").unlink()
    assert not has_report(workspace, "r-1")


def test_who_was_erased_is_not_shown_while_the_removal_is_waited_for(indexed_site: SiteConfig) -> None:
    write_run(indexed_site)
    workspace = Workspace(indexed_site)
    search = SiteSearch(indexed_site, ServiceSettings(threads=1))
    assert PICTURE in search.pictures.training_report(LOCAL, "m", "r-1")
    add_erasures(workspace.erasures, [Erasure(list_shards(workspace)[0].video_sha256, 1.0, 2.0, None)])
    after = search.pictures.training_report(LOCAL, "m", "r-1")
    search.close()
    assert "data:image/jpeg" not in after
    assert PICTURE not in after
    assert "A run" in after
