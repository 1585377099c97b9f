"""What is left of a hit when what it shows is erased, and what is not touched."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from datetime import timedelta

import pytest

from gallery_service.caller import LOCAL, Caller, Role
from gallery_service.databases.gallery import gallery_database
from gallery_service.errors import NotFound
from gallery_service.indexing.build import build_gallery, compact_gallery
from gallery_service.investigations.schemas import HitDecision, Investigation, NewInvestigation
from gallery_service.investigations.service import Investigations
from gallery_service.pages.open_case import open_case
from gallery_service.search.site_search import SearchRequest, SiteSearch
from gallery_service.settings import ServiceSettings
from ingest.erasures import Erasure, add_erasures
from ingest.shards import list_shards
from ingest.site import SiteConfig
from ingest.workspace import Workspace

from .. import synthetic

CASE = "c" * 32

pytestmark = pytest.mark.usefixtures("either_database")


@pytest.fixture
def search(indexed_site: SiteConfig) -> Iterator[SiteSearch]:
    opened = SiteSearch(indexed_site, ServiceSettings(threads=1))
    yield opened
    opened.close()


def tracklets(site: SiteConfig, camera: str) -> list[str]:
    """Of the recording whose time is known, in order."""
    shards = [shard.tracklets() for shard in list_shards(Workspace(site), camera)]
    return [row["tracklet_id"] for shard in shards for row in shard.to_pylist() if row["first_seen"] is not None]


def begin(search: SiteSearch, **decisions: str) -> None:
    """An investigation with hits, given by decision, and a query from the first of each."""
    cases = Investigations(search, LOCAL)
    cases.begin(NewInvestigation(title="t", purpose="p", investigation_id=CASE))
    for decision, names in decisions.items():
        for name in names.split():
            cases.decide(CASE, name, HitDecision.model_validate({"decision": decision, "note": f"saw {name}"}))
        cases.search_tracklet(CASE, names.split()[0], SearchRequest())


def get(search: SiteSearch, caller: Caller = LOCAL) -> Investigation:
    return Investigations(search, caller).get(CASE)


def erase_first(search: SiteSearch, walks: int, seconds: float, generation: int = 2) -> None:
    """Erase the first so many walks of camera 1, which begin within the first seconds of its recording. The line in
    erasures.jsonl covers a corner where nobody else walks."""
    workspace = Workspace(search.site)
    (shard,) = list_shards(workspace, "cam1")
    add_erasures(workspace.erasures, [Erasure(shard.video_sha256, 0.0, seconds, (0, 0, 9, 9))])
    kept = synthetic.walks_of(1)[walks:]
    start = synthetic.START + timedelta(minutes=10)
    new = {"settings": f"erased-{walks}", "generation": generation, "first": walks + 1}
    synthetic.add_shard(workspace, 1, kept, sha256=shard.video_sha256, start=start, **new)  # type: ignore[arg-type]


@pytest.mark.parametrize("bring_up_to_date", ["index", "compact"])
def test_an_erased_hit_keeps_its_decision_and_nothing_of_whom_it_showed(
    search: SiteSearch, bring_up_to_date: str
) -> None:
    first, second, *_ = tracklets(search.site, "cam1")
    other = tracklets(search.site, "cam2")[0]
    begin(search, confirmed=f"{first} {second}", rejected=other)
    before = {hit.tracklet_id: hit for hit in get(search).hits}
    erase_first(search, 1, 1.0)  # the first begins at 0.5 s, the second at 2.5 s
    if bring_up_to_date == "compact":
        compact_gallery(search.site)
    build_gallery(search.site, threads=1, quiet=True)
    found = get(search)
    assert [(hit.state, hit.decision) for hit in found.hits] == [
        ("present", "rejected"), ("present", "confirmed"), ("erased", "confirmed"),
    ]  # fmt: skip
    gone, was = found.hits[2], before[first]
    assert (gone.hit_id, gone.decided_by, gone.decided_at, gone.model_version) == (
        was.hit_id, was.decided_by, was.decided_at, was.model_version,
    )  # fmt: skip
    nothing = ("tracklet_id", "camera_id", "first_seen", "last_seen", "score", "query_id", "crop_url", "clip_url")
    assert [getattr(gone, name) for name in nothing] == [None] * len(nothing)
    assert gone.note == ""
    assert {hit.tracklet_id: hit for hit in found.hits if hit.tracklet_id} == {
        name: hit for name, hit in before.items() if name != first
    }
    assert [query.tracklet_id for query in found.query_list] == [other]
    assert [one.tracklet_id for one in Investigations(search, LOCAL).timeline(CASE).sightings] == [second]
    kept = list(gallery_database(Workspace(search.site)).rows())
    assert {"investigation_hits", "investigation_queries"} <= {table for table, _ in kept}
    assert not [row for table, row in kept if table.startswith("investigation") and first in map(str, row)]


def test_somebody_with_rights_to_some_cameras_does_not_see_what_is_left(search: SiteSearch) -> None:
    first = tracklets(search.site, "cam1")[0]
    begin(search, confirmed=first)
    erase_first(search, 1, 1.0)
    build_gallery(search.site, threads=1, quiet=True)
    some = Caller("local", Role.INVESTIGATOR, {"toy": frozenset({"cam1", "cam2"})})
    assert get(search, some).hits == []
    (hit,) = get(search).hits
    Investigations(search, LOCAL).remove_gone(CASE, hit.hit_id)
    assert get(search).hits == []


def test_a_hit_stays_while_its_shard_is_not_embedded_yet(search: SiteSearch) -> None:
    """What survives in a shard that was written anew can be found until that is embedded."""
    first, second, *_ = tracklets(search.site, "cam1")
    begin(search, confirmed=f"{first} {second}")
    # Of another person, but at a time when the second was there, too.
    erase_first(search, 1, 3.0)
    compact_gallery(search.site)
    assert sorted((hit.state, hit.tracklet_id) for hit in get(search).hits) == [("erased", None), ("present", second)]
    build_gallery(search.site, threads=1, quiet=True)
    assert sorted((hit.state, hit.tracklet_id) for hit in get(search).hits) == [("erased", None), ("present", second)]
    erase_first(search, 2, 3.0, generation=3)
    compact_gallery(search.site)
    assert [hit.state for hit in get(search).hits] == ["erased", "erased"]


def ingest_anew(search: SiteSearch) -> tuple[str, str]:
    """Cut the first recording otherwise, which gives the id of its first tracklet to another person; the ids of the
    first, which is gone, and of the second, which is not."""
    first, second, *_ = tracklets(search.site, "cam1")
    synthetic.ingest_anew(Workspace(search.site))
    assert tracklets(search.site, "cam1")[0] == first
    build_gallery(search.site, threads=1, quiet=True)
    return first, second


def test_a_recording_ingested_anew_erases_nothing_and_its_ids_mean_others(search: SiteSearch) -> None:
    """The same ids are given again, to other stretches of the recording."""
    begin(search, confirmed=" ".join(tracklets(search.site, "cam1")[:2]))
    first, second = ingest_anew(search)
    found = {hit.tracklet_id: hit for hit in get(search).hits}
    assert (found[first].state, found[first].crop_url, found[second].state) == ("missing", None, "present")
    assert found[first].first_seen is not None
    line = Investigations(search, LOCAL).timeline(CASE)
    assert [(one.tracklet_id, one.crop_url is None) for one in line.sightings] == [(first, True), (second, False)]
    # The new one by that id can be decided about beside the old one.
    Investigations(search, LOCAL).decide(CASE, first, HitDecision(decision="rejected"))
    assert sorted((hit.state, hit.decision) for hit in get(search).hits if hit.tracklet_id == first) == [
        ("missing", "confirmed"),
        ("present", "rejected"),
    ]


def test_an_id_that_was_given_again_means_the_person_who_has_it_now(search: SiteSearch) -> None:
    begin(search, confirmed=tracklets(search.site, "cam1")[0])
    first, second = ingest_anew(search)
    cases = Investigations(search, LOCAL)
    (missing,) = get(search).hits
    assert open_case(search, LOCAL, CASE).decisions == {}, "nobody decided about who has the id now"
    with pytest.raises(NotFound, match="not there any more"):
        cases.decide_again(CASE, missing.hit_id, first, HitDecision(decision="rejected"))
    with pytest.raises(NotFound):
        cases.remove_tracklet(CASE, first)
    assert get(search).hits == [missing]
    present = cases.decide(CASE, first, HitDecision(decision="undecided"))
    again = cases.decide_again(CASE, present.hit_id, first, HitDecision(decision="rejected"))
    assert again.hit_id == present.hit_id
    assert open_case(search, LOCAL, CASE).decisions == {first: "rejected"}
    with pytest.raises(NotFound, match="missing or erased"):
        cases.remove_gone(CASE, present.hit_id)
    cases.remove_tracklet(CASE, first)
    assert get(search).hits == [missing]
    other = cases.decide(CASE, second, HitDecision(decision="confirmed"))
    assert other.hit_id == present.hit_id, "the numbers of hits are given again, too"
    with pytest.raises(NotFound, match="not there any more"):
        cases.decide_again(CASE, present.hit_id, first, HitDecision(decision="rejected"))
    cases.remove_gone(CASE, missing.hit_id)
    assert get(search).hits == [other]


def test_a_report_tells_hits_of_one_id_apart(search: SiteSearch) -> None:
    begin(search, confirmed=tracklets(search.site, "cam1")[0])
    first, _ = ingest_anew(search)
    cases = Investigations(search, LOCAL)
    present = cases.decide(CASE, first, HitDecision(decision="confirmed", note="another coat"))
    with cases.export(CASE) as file, zipfile.ZipFile(file) as archive:
        report = archive.read("report.html").decode()
        assert f"crops/{present.hit_id:06d}.jpg" in archive.namelist()
    assert (report.count(f"saw {first}"), report.count("another coat"), report.count("<img")) == (1, 1, 1)


@pytest.mark.parametrize("what", ["put_hit", "add_query"])
def test_erased_between_the_look_at_the_tracklet_and_the_write(
    search: SiteSearch, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    first = tracklets(search.site, "cam1")[0]
    cases = Investigations(search, LOCAL)
    cases.begin(NewInvestigation(title="t", purpose="p", investigation_id=CASE))
    write = getattr(cases._repository, what)

    def write_later(*args: object) -> object:
        erase_first(search, 1, 1.0)
        compact_gallery(search.site)
        return write(*args)

    monkeypatch.setattr(cases._repository, what, write_later)
    with pytest.raises(NotFound, match="was erased a moment ago"):
        if what == "put_hit":
            cases.decide(CASE, first, HitDecision(decision="confirmed", note="red jacket"))
        else:
            cases.search_tracklet(CASE, first, SearchRequest())
    assert (get(search).hits, get(search).query_list) == ([], [])


def test_erased_while_a_hit_is_being_written(search: SiteSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes out what was erased waits for a hit that was not written yet when it was."""
    first = tracklets(search.site, "cam1")[0]
    cases = Investigations(search, LOCAL)
    cases.begin(NewInvestigation(title="t", purpose="p", investigation_id=CASE))
    erasing = threading.Thread(target=lambda: compact_gallery(search.site))

    def erase_meanwhile(*_: object, **__: object) -> None:
        erase_first(search, 1, 1.0)
        erasing.start()
        erasing.join(0.5)

    monkeypatch.setattr(cases._repository, "_record", erase_meanwhile)  # the last step of the transaction
    cases.decide(CASE, first, HitDecision(decision="confirmed", note="red jacket"))
    erasing.join()
    assert [(hit.state, hit.note) for hit in get(search).hits] == [("erased", "")]
