"""Who sees which investigation, and what of it; and that every change is in the audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gallery_service.audit.trail import EntryFilter
from gallery_service.caller import LOCAL, Caller, Role
from gallery_service.errors import Conflict, Forbidden, GalleryError, NotFound
from gallery_service.investigations.schemas import HitDecision, InvestigationChange, NewInvestigation
from gallery_service.investigations.service import Investigations
from gallery_service.search.query_pictures import QueryPicture
from gallery_service.search.site_search import SearchRequest, SiteSearch
from gallery_service.settings import ServiceSettings
from models.images import encode_jpeg

from .. import synthetic
from ..conftest import copy_site

BOTH = frozenset({"cam1", "cam2"})


def caller(name: str, role: Role = Role.INVESTIGATOR, cameras: frozenset[str] = BOTH) -> Caller:
    return replace(LOCAL, name=name, role=role, rights={"toy": cameras})


ANN, BEN = caller("ann"), caller("ben")
BEN_AT_1 = caller("ben", cameras=frozenset({"cam1"}))
EVE_VIEWS = caller("eve", Role.VIEWER)
ROOT = caller("root", Role.ADMIN)


@pytest.fixture(scope="module")
def search(built_gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteSearch]:
    opened = SiteSearch(copy_site(built_gallery, tmp_path_factory.mktemp("rights")), ServiceSettings(threads=1))
    yield opened
    opened.close()


@pytest.fixture
def case(search: SiteSearch) -> str:
    """Ann's, shared with Ben and Eve: a hit of each camera, a query by a picture and one from each hit."""
    mine = Investigations(search, ANN)
    begun, _ = mine.begin(NewInvestigation(title="t", purpose="case 7"))
    picture = QueryPicture(encode_jpeg(synthetic.query_crop(0)))
    found = mine.search_pictures(begun.investigation_id, [picture], SearchRequest(top_k=50), keep=True)
    for camera in ("cam1", "cam2"):
        tracklet = next(match.tracklet_id for match in found.matches if match.camera_id == camera)
        mine.decide(begun.investigation_id, tracklet, HitDecision(decision="confirmed"))
        mine.search_tracklet(begun.investigation_id, tracklet, SearchRequest())
    mine.change(begun.investigation_id, InvestigationChange(shared_with=["ben", "eve"]))
    return begun.investigation_id


def test_only_its_owner_those_it_is_shared_with_and_admins_see_it(search: SiteSearch, case: str) -> None:
    for who in (ANN, BEN, EVE_VIEWS, ROOT):
        cases = Investigations(search, who)
        assert cases.get(case).investigation_id == case
        assert case in [one.investigation_id for one in cases.page(None, None, 50).investigations]
    stranger = Investigations(search, caller("dan"))
    assert case not in [one.investigation_id for one in stranger.page(None, None, 50).investigations]
    query = Investigations(search, ANN).get(case).query_list[0].query_id
    tracklet = Investigations(search, ANN).get(case).hits[0].tracklet_id
    assert tracklet is not None
    unknown = "0" * 32
    for attempt in (
        lambda one: stranger.get(one), lambda one: stranger.timeline(one), lambda one: stranger.remove(one),
        lambda one: stranger.picture(one, query, 0), lambda one: stranger.remove_query(one, query),
        lambda one: stranger.change(one, InvestigationChange(title="mine")),
        lambda one: stranger.decide(one, tracklet, HitDecision(decision="rejected")),
        lambda one: stranger.remove_tracklet(one, tracklet), lambda one: stranger.remove_gone(one, 1),
        lambda one: stranger.search_refined(one, SearchRequest()), lambda one: stranger.export(one),
        lambda one: stranger.begin(NewInvestigation(title="x", purpose="x", investigation_id=one)),
    ):  # fmt: skip
        with pytest.raises(NotFound) as foreign:
            attempt(case)
        if attempt.__code__.co_names[0] != "begin":  # an unknown id begins a new one
            with pytest.raises(NotFound) as absent:
                attempt(unknown)
            # Nothing tells one that is there from one that is not.
            assert str(foreign.value).replace(case, "") == str(absent.value).replace(unknown, "")


def test_what_a_foreign_camera_saw_is_not_there(search: SiteSearch, case: str) -> None:
    whole, part = (Investigations(search, who).get(case) for who in (ANN, BEN_AT_1))
    assert (whole.confirmed, whole.queries) == (2, 3)
    assert (part.confirmed, part.queries) == (1, 2)
    assert [hit.camera_id for hit in part.hits] == ["cam1"]
    assert [query.kind for query in part.query_list] == ["image", "tracklet"]
    line = Investigations(search, BEN_AT_1).timeline(case)
    assert [camera.camera_id for camera in line.cameras] == ["cam1"]
    assert line.moves == []
    foreign = next(hit for hit in whole.hits if hit.camera_id == "cam2")
    assert foreign.tracklet_id is not None
    assert foreign.tracklet_id not in part.model_dump_json()
    ben = Investigations(search, BEN_AT_1)
    for attempt in (
        lambda: ben.decide(case, foreign.tracklet_id, HitDecision(decision="rejected")),
        lambda: ben.remove_tracklet(case, foreign.tracklet_id),
        lambda: ben.search_tracklet(case, foreign.tracklet_id, SearchRequest()),
        lambda: ben.remove_query(case, whole.query_list[2].query_id),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert Investigations(search, ANN).get(case).hits == whole.hits


def test_a_refined_search_neither_finds_nor_uses_what_a_foreign_camera_saw(search: SiteSearch, case: str) -> None:
    asked = SearchRequest(top_k=50)
    part = Investigations(search, BEN_AT_1).search_refined(case, asked)
    assert {match.camera_id for match in part.matches} == {"cam1"}
    whole = {
        match.tracklet_id: match.score for match in Investigations(search, ANN).search_refined(case, asked).matches
    }
    assert any(abs(match.score - whole[match.tracklet_id]) > 1e-4 for match in part.matches)


def test_whom_it_is_shared_with_works_on_it_but_only_owner_and_admins_manage_it(search: SiteSearch, case: str) -> None:
    tracklet = Investigations(search, ANN).get(case).hits[0].tracklet_id
    assert tracklet is not None
    ben, eve = Investigations(search, BEN), Investigations(search, EVE_VIEWS)
    hit = ben.decide(case, tracklet, HitDecision(decision="rejected"))
    assert (hit.decision, hit.decided_by) == ("rejected", "ben")
    assert (ben.get(case).may_edit, ben.get(case).may_manage) == (True, False)
    assert (eve.get(case).may_edit, eve.get(case).may_manage) == (False, False)
    for attempt in (
        lambda: ben.change(case, InvestigationChange(status="closed")), lambda: ben.remove(case),
        lambda: ben.change(case, InvestigationChange(shared_with=["ben", "dan"])),
        lambda: eve.decide(case, tracklet, HitDecision(decision="confirmed")), lambda: eve.remove(case),
        lambda: eve.search_refined(case, SearchRequest()), lambda: eve.remove_tracklet(case, tracklet),
        lambda: eve.begin(NewInvestigation(title="x", purpose="x")),
    ):  # fmt: skip
        with pytest.raises(Forbidden):
            attempt()
    root = Investigations(search, ROOT)
    assert root.change(case, InvestigationChange(status="closed")).status == "closed"
    with pytest.raises(Conflict):
        ben.decide(case, tracklet, HitDecision(decision="confirmed"))
    root.remove(case)
    with pytest.raises(NotFound):
        ben.get(case)


def test_a_search_is_taken_in_only_by_whoever_made_it(search: SiteSearch, case: str) -> None:
    found = search.search_image(BEN, encode_jpeg(synthetic.query_crop(1)), SearchRequest())
    with pytest.raises(NotFound):
        Investigations(search, ANN).keep_query(case, found.query_id)
    assert Investigations(search, BEN).keep_query(case, found.query_id).asked_by == "ben"


def test_a_search_from_a_camera_that_may_no_longer_be_seen_is_not_taken_in(search: SiteSearch, case: str) -> None:
    before = Investigations(search, ANN).get(case)
    foreign = next(hit.tracklet_id for hit in before.hits if hit.camera_id == "cam2")
    assert foreign is not None
    found = search.search_tracklet(BEN, foreign, SearchRequest())
    with pytest.raises(NotFound):
        Investigations(search, BEN_AT_1).keep_query(case, found.query_id)
    assert Investigations(search, ANN).get(case) == before
    assert Investigations(search, BEN).keep_query(case, found.query_id).tracklet_id == foreign


def test_a_query_that_is_removed_while_it_is_taken_in(
    search: SiteSearch, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    query_id = search.search_image(BEN, encode_jpeg(synthetic.query_crop(1)), SearchRequest()).query_id
    ben = Investigations(search, BEN)
    add = ben._repository.add_query

    def add_in_vain(*args: Any) -> None:
        add(*args)
        Investigations(search, ANN).remove_query(case, query_id)

    monkeypatch.setattr(ben._repository, "add_query", add_in_vain)
    with pytest.raises(NotFound, match="removed"):
        ben.keep_query(case, query_id)


def test_filters_of_a_query_name_no_camera_that_its_reader_may_not_see(search: SiteSearch, case: str) -> None:
    asked = SearchRequest(cameras=["cam1", "cam2"], exclude_cameras=["cam2"])
    picture = QueryPicture(encode_jpeg(synthetic.query_crop(1)))
    query_id = Investigations(search, ANN).search_pictures(case, [picture], asked, keep=False).query_id
    told = {}
    for who in (BEN, BEN_AT_1):
        (kept,) = (one for one in Investigations(search, who).get(case).query_list if one.query_id == query_id)
        told[who.cameras("toy")] = (kept.filters["cameras"], kept.filters["exclude_cameras"])
    assert told == {BOTH: (["cam1", "cam2"], ["cam2"]), frozenset({"cam1"}): (["cam1"], [])}


def test_a_look_at_a_kept_picture_is_recorded_once(search: SiteSearch, case: str) -> None:
    cases = Investigations(search, BEN)
    kept = next(one for one in cases.get(case).query_list if one.image_urls)
    for _ in range(3):
        assert cases.picture(case, kept.query_id, 0)
    looks = [
        json.loads(entry.details) for entry, _ in search.audit.newest(EntryFilter(action="query-picture"), None, 9)
    ]
    wanted = {"investigation": case, "query_id": kept.query_id, "number": 0}
    assert [look for look in looks if look["query_id"] == kept.query_id] == [wanted]


def test_every_change_is_recorded_with_its_purpose_and_by_ids_only(search: SiteSearch) -> None:
    before = search.audit.head()[0]
    cases = Investigations(search, ANN)
    new = NewInvestigation(title="SECRET title", purpose="case 8", notes="SECRET notes")
    case = cases.begin(new)[0].investigation_id
    found = cases.search_pictures(
        case, [QueryPicture(encode_jpeg(synthetic.query_crop(2)))], SearchRequest(), keep=True
    )
    tracklet = found.matches[0].tracklet_id
    cases.decide(case, tracklet, HitDecision(decision="confirmed", note="SECRET note", query_id=found.query_id))
    cases.export(case).close()
    cases.remove_tracklet(case, tracklet)
    cases.remove_query(case, found.query_id)
    cases.change(case, InvestigationChange(title="SECRET other", shared_with=["ben"]))
    cases.remove(case)
    for attempt in (cases.get, cases.remove):
        with pytest.raises(GalleryError):
            attempt(case)
    written = [entry for entry, _ in search.audit.newest(EntryFilter(), None, search.audit.head()[0] - before)][::-1]
    assert [entry.action for entry in written] == [
        "investigation.created", "search", "investigation.query_added", "decision", "export", "decision.removed",
        "investigation.query_removed", "investigation.changed", "investigation.deleted",
    ]  # fmt: skip
    assert {(entry.who, entry.purpose) for entry in written} == {("ann", "case 8")}
    details = [json.loads(entry.details) for entry in written]
    assert all(one["investigation"] == case for one in details if "filters" not in one)
    assert details[1]["filters"]["investigation"] == case
    assert (details[3]["tracklet_id"], details[3]["decision"]) == (tracklet, "confirmed")
    assert details[7]["shared_with"] == ["ben"]
    assert "SECRET" not in json.dumps(details)
    assert search.audit.verify().problem is None


def test_a_change_that_cannot_be_recorded_does_not_happen(
    search: SiteSearch, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gallery_service.audit.trail import AuditTrail

    def broken(*_: object, **__: object) -> None:
        raise OSError("disk full")

    before = Investigations(search, ANN).get(case)
    tracklet = before.hits[0].tracklet_id
    assert tracklet is not None
    monkeypatch.setattr(AuditTrail, "append", broken)
    cases = Investigations(search, ANN)
    for attempt in (
        lambda: cases.decide(case, tracklet, HitDecision(decision="rejected")), lambda: cases.remove(case),
        lambda: cases.change(case, InvestigationChange(title="other")), lambda: cases.remove_tracklet(case, tracklet),
        lambda: cases.remove_query(case, before.query_list[0].query_id), lambda: cases.export(case),
    ):  # fmt: skip
        with pytest.raises(OSError, match="disk full"):
            attempt()
    monkeypatch.undo()
    assert Investigations(search, ANN).get(case) == before
