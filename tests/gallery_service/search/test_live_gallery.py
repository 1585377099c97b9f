"""What a running service has loaded, while it changes on disk and loading takes long."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from gallery_service.indexing.build import build_gallery
from gallery_service.search import live_gallery
from gallery_service.search.live_gallery import LiveGallery
from gallery_service.search.site_search import SiteSearch
from gallery_service.settings import ServiceSettings
from ingest.site import SiteConfig
from tests.gallery_service import synthetic
from tests.gallery_service.indexer import use_colours

SETTINGS = ServiceSettings(threads=1)


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embed by colour, which spares every test the network."""
    monkeypatch.delitem(sys.modules, "models.embedder", raising=False)
    monkeypatch.setitem(sys.modules, "models.embedder", None)  # put back what was there afterwards
    use_colours()


@pytest.fixture
def search(site: SiteConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[SiteSearch]:
    """The site, indexed, in a service that has loaded nothing yet."""
    monkeypatch.setattr(live_gallery, "_PAUSE_AFTER_LOADING", 0.0)
    build_gallery(site, quiet=True)
    opened = SiteSearch(site, SETTINGS)
    yield opened
    opened.close()


def test_a_model_that_takes_over_while_another_is_loaded_is_not_missed(
    search: SiteSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading a network takes seconds, in which the index run may end."""
    new = synthetic.add_model(search.site, seed=2).version
    load_model, runs = LiveGallery._load_model, []

    def slowly(live: LiveGallery, version: str) -> object:
        if not runs:
            runs.append(build_gallery(search.site, quiet=True))
        return load_model(live, version)

    monkeypatch.setattr(LiveGallery, "_load_model", slowly)
    assert search.refresh().bundle.version != new
    assert runs[0].serving_version == new
    assert search.refresh().bundle.version == new
