"""What a running service has loaded, while it changes on disk and loading takes long."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from gallery_service.caller import LOCAL
from gallery_service.erasure.erase import erase
from gallery_service.errors import NotFound
from gallery_service.indexing.build import build_gallery
from gallery_service.investigations.schemas import HitDecision, NewInvestigation
from gallery_service.investigations.service import Investigations
from gallery_service.search import live_gallery
from gallery_service.search.live_gallery import LiveGallery
from gallery_service.search.site_search import SearchRequest, SiteSearch
from gallery_service.settings import ServiceSettings
from ingest.erasure_selection import Selection
from ingest.site import SiteConfig
from ingest.workspace import Workspace
from models.bundle import ModelStore
from models.images import encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.indexer import ColourEmbedder, use_colours


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embed by colour, which spares every test the network."""
    monkeypatch.delitem(sys.modules, "models.embedder", raising=False)
    monkeypatch.setitem(sys.modules, "models.embedder", None)  # put back what was there afterwards

    class Embedder(ColourEmbedder):
        provider = "colours"

    use_colours(Embedder)


@dataclass
class Load:
    """What loading a gallery meets: it takes up to a minute, unless it may end."""

    may_end: threading.Event = field(default_factory=threading.Event)
    running: threading.Event = field(default_factory=threading.Event)
    count: int = 0


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    state, original = Load(), live_gallery.load_gallery
    state.may_end.set()

    def slowly(*arguments: object, **more: object) -> object:
        state.count += 1
        state.running.set()
        found = original(*arguments, **more)  # type: ignore[arg-type]
        assert state.may_end.wait(60)
        return found

    monkeypatch.setattr(live_gallery, "load_gallery", slowly)
    return state


@pytest.fixture
def search(site: SiteConfig) -> Iterator[SiteSearch]:
    """The site, indexed, in a service that has loaded nothing yet."""
    build_gallery(site, quiet=True)
    opened = SiteSearch(site, ServiceSettings(threads=1, reload_wait_s=0.1))
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
    pause(search)
    ModelStore(Workspace(search.site).models).rollback()
    assert search.refresh().bundle.version != new, "whoever takes a model back cannot wait"


def pause(search: SiteSearch) -> None:
    """As after a load that took long."""
    search._next_attempt = time.monotonic() + 3600


def begin_to_load(search: SiteSearch, load: Load) -> threading.Thread:
    """Another thread that loads what has changed, and does not end before it may."""
    load.may_end.clear()
    load.running.clear()
    other = threading.Thread(target=search.refresh)
    other.start()
    assert load.running.wait(60)
    return other


def test_many_who_meet_an_outdated_row_load_once(search: SiteSearch, load: Load) -> None:
    """However long that takes, and whatever is new each time."""
    search.refresh()
    add_recording(search)
    other = begin_to_load(search, load)
    answers: list[object] = []
    asking = [threading.Thread(target=lambda: answers.append(search.refresh(outdated=True))) for _ in range(6)]
    for thread in asking:
        thread.start()
    add_recording(search, "newer")
    assert not answers
    load.may_end.set()
    for thread in [other, *asking]:
        thread.join()
    assert load.count == 3, "once, the one under way, and once for all who asked meanwhile"
    assert len({id(answer) for answer in answers}) == 1


def add_recording(search: SiteSearch, name: str = "new") -> None:
    """Two people more."""
    synthetic.add_shard(Workspace(search.site), 1, synthetic.walks_of(1, 2), sha256=synthetic.pseudo_sha256(name))
    build_gallery(search.site, quiet=True)


def found(search: SiteSearch, top_k: int = 5) -> list[str]:
    answer = search.search_image(LOCAL, encode_jpeg(synthetic.query_crop(1)), SearchRequest(top_k=top_k))
    return [match.tracklet_id for match in answer.matches]


def erase_one(site: SiteConfig, tracklet_id: str) -> None:
    """Erase somebody: all others of the recording get a new shard."""
    chosen = Selection(tracklets=frozenset([tracklet_id]))
    assert erase(site, chosen, asked={"tracklet": tracklet_id}, caller=LOCAL).clean


def test_no_pause_costs_an_answer_who_is_still_there(search: SiteSearch, load: Load) -> None:
    before = found(search, 50)
    pause(search)
    gone, *others = (tracklet_id for tracklet_id in before if tracklet_id.startswith("cam1/"))
    erase_one(search.site, gone)
    assert load.count == 1
    assert len(found(search)) == 5
    assert load.count == 2
    pause(search)
    assert found(search, 50) == [tracklet_id for tracklet_id in before if tracklet_id != gone]
    assert load.count == 2, "nothing is gone from this one"
    erase_one(search.site, others[0])
    assert search.search_tracklet(LOCAL, others[1], SearchRequest()).matches
    with pytest.raises(NotFound):
        search.search_tracklet(LOCAL, others[0], SearchRequest())
    assert load.count == 3


def test_what_was_confirmed_counts_also_when_its_shard_is_new(search: SiteSearch, load: Load) -> None:
    gone, confirmed = [tracklet_id for tracklet_id in found(search, 50) if tracklet_id.startswith("cam1/")][:2]
    cases = Investigations(search, LOCAL)
    case = cases.begin(NewInvestigation(title="t", purpose="p"))[0].investigation_id
    cases.decide(case, confirmed, HitDecision(decision="confirmed"))
    pause(search)
    erase_one(search.site, gone)
    assert cases.search_refined(case, SearchRequest()).matches


def test_what_could_not_be_loaded_is_not_tried_with_every_search(
    search: SiteSearch, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = next(tracklet_id for tracklet_id in found(search) if tracklet_id.startswith("cam1/"))
    erase_one(search.site, gone)
    tried = []

    def broken(*_: object, **__: object) -> None:
        tried.append(1)
        raise OSError("disk")

    monkeypatch.setattr(live_gallery, "load_gallery", broken)
    monkeypatch.setattr(live_gallery, "_AFTER_FAILURE_S", 3600.0)
    for _ in range(3):
        assert gone not in found(search)
    assert len(tried) == 1


def test_while_a_gallery_is_loaded_the_one_before_answers(search: SiteSearch, load: Load) -> None:
    everybody = found(search, 50)
    gallery = search.refresh()
    add_recording(search)
    other = begin_to_load(search, load)
    assert search.refresh() is gallery
    assert found(search, 50) == everybody
    assert search.current_site() is search.site
    load.may_end.set()
    other.join()
    assert len(found(search, 50)) == len(everybody) + 2


def test_what_is_loaded_in_a_moment_is_waited_for(search: SiteSearch, load: Load) -> None:
    search.settings.reload_wait_s = 60
    everybody = found(search, 50)
    add_recording(search)
    other = begin_to_load(search, load)
    threading.Timer(0.3, load.may_end.set).start()
    assert len(found(search, 50)) == len(everybody) + 2
    other.join()


def test_who_is_erased_while_a_gallery_is_loaded_is_in_no_answer(search: SiteSearch, load: Load) -> None:
    """What is being loaded has them; whoever asks gets an answer without them, and with all others."""
    everybody = found(search, 50)
    new = synthetic.add_model(search.site, seed=2).version
    build_gallery(search.site, quiet=True)
    other = begin_to_load(search, load)
    gone = next(tracklet_id for tracklet_id in everybody if tracklet_id.startswith("cam1/"))
    answers: list[list[str]] = []
    asking = threading.Thread(target=lambda: answers.append(found(search, 50)))
    erase_one(search.site, gone)
    asking.start()
    asking.join(0.5)
    load.may_end.set()
    asking.join()
    other.join()
    assert sorted(answers[0]) == sorted(set(everybody) - {gone})
    assert search.refresh().bundle.version == new
    assert ModelStore(Workspace(search.site).models).current_version() == new
