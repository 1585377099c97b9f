"""A service that nobody asks anything lets go of who was erased by itself."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from gallery_service.caller import LOCAL
from gallery_service.databases.gallery import gallery_file
from gallery_service.indexing.build import build_gallery
from gallery_service.search.keeping_up import keeping_up
from gallery_service.search.site_search import SearchRequest, SiteSearch
from gallery_service.settings import ServiceSettings
from ingest.site import SiteConfig
from ingest.workspace import Workspace
from models.images import encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import copy_site, run_service
from tests.gallery_service.erasure.conftest import person, vectors_of
from tests.gallery_service.erasure.test_erase import erase_tracklet

PATIENCE_S = 60


def until(condition: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def search(site: SiteConfig) -> Iterator[SiteSearch]:
    found = SiteSearch(site, ServiceSettings(threads=1))
    yield found
    found.close()


def test_who_is_erased_leaves_without_a_request(site: SiteConfig, search: SiteSearch) -> None:
    somebody = person(site)
    search.search_image(LOCAL, encode_jpeg(synthetic.query_crop(0)), SearchRequest())
    asked = search.search_tracklet(LOCAL, somebody.tracklet_id, SearchRequest()).query_id
    search.pictures.clip(LOCAL, somebody.tracklet_id)
    gallery = search.refresh()
    before, first = len(gallery.index), weakref.ref(gallery)
    del gallery
    with keeping_up([search], every_s=0.05):
        erase_tracklet(site, somebody.tracklet_id)
        assert until(lambda: search.searchable_tracklets == before - 1)
        assert until(lambda: search.recent_queries.get(asked, LOCAL.name) is None)
    gc.collect()
    assert first() is None, "something holds on to the gallery that has somebody in it"
    assert search.pictures._clips._clips == {}
    assert not [thread for thread in threading.enumerate() if thread.name == "keeping up"]


def test_erasing_gives_up_no_lock_on_the_database(site: SiteConfig, search: SiteSearch) -> None:
    """Else the next command that is done with it takes it for unused and deletes the log that a service writes to."""
    search.refresh()
    erase_tracklet(site, person(site).tracklet_id)  # in this process, as a service's retention does
    file = str(gallery_file(Workspace(site)))
    look = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT purpose FROM audit').fetchall())"
    for purpose in ("first", "second"):
        search.record(LOCAL, "search", {}, purpose)
        seen = subprocess.run([sys.executable, "-c", look, file], capture_output=True, text=True, check=True)
        assert purpose in seen.stdout


def test_it_outlives_what_goes_wrong_and_ends(
    site: SiteConfig, search: SiteSearch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = SiteSearch(site, search.settings)
    broken.keep_up = lambda: 1 / 0  # type: ignore[assignment,method-assign,return-value]
    with keeping_up([broken, search], every_s=0.05):
        assert until(lambda: search.searchable_tracklets > 0)
    assert "site 'toy' could not be looked at" in caplog.text
    began = time.monotonic()
    with keeping_up([search], every_s=3600):
        pass
    assert time.monotonic() - began < 5


def test_a_site_without_a_gallery_is_taken_up_once_it_has_one(
    built_site: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = copy_site(built_site, tmp_path)
    search = SiteSearch(site, ServiceSettings(threads=1))
    with keeping_up([search], every_s=0.05):
        time.sleep(0.2)
        build_gallery(site, quiet=True)
        assert until(lambda: search.searchable_tracklets > 0)
    search.close()
    assert caplog.text == ""


def in_memory(pid: int, needle: bytes) -> int:
    """How often some bytes lie in what a process has written to."""
    found = 0
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            area = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-p .* 0 *(\[heap\])?$", line)
            if area is None:
                continue
            begin, end = int(area[1], 16), int(area[2], 16)
            try:
                memory.seek(begin)
                found += memory.read(end - begin).count(needle)
            except OSError:  # unmapped meanwhile
                continue
    return found


def test_no_piece_of_their_vector_is_left_in_the_memory_of_a_service(built_gallery: Path, tmp_path: Path) -> None:
    site = copy_site(built_gallery, tmp_path)
    somebody = person(site)
    mean = vectors_of(site, somebody.tracklet_id)[0]
    with run_service(site.folder, env={"CALR_SERVICE_LOOK_EVERY_S": "0.2"}) as service:

        def found() -> list[int]:
            return [in_memory(service.process.pid, mean[at : at + 64]) for at in range(0, len(mean), 64)]

        assert set(found()) == {1}, "once: the index has no copy of its own"
        command = [sys.executable, "-m", "gallery_service", "erase", str(site.folder), "--yes"]
        subprocess.run([*command, "--tracklet", somebody.tracklet_id], check=True, capture_output=True)
        # Metrics tell what is loaded, and do not look whether that is still right.
        assert until(lambda: 'calr_gallery_tracklets{site="toy"} 12.0' in httpx.get(f"{service.url}/metrics").text)
        assert until(lambda: set(found()) == {0})
    assert service.process.returncode == 0
