"""A running service shows nobody any more whom erasures.jsonl names, whatever still lies in the gallery."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from gallery_service.access.database import ACCESS
from gallery_service.access.identity import Identities
from gallery_service.caller import LOCAL, Caller, Role, caller_of
from gallery_service.databases.sqlite_file import SqliteFile
from gallery_service.erasure.erased_tracklets import ErasuresUnreadable
from gallery_service.erasure.orders import find_order, write_order
from gallery_service.erasure.retention import keep_retention, keeping_retention
from gallery_service.errors import NotFound
from gallery_service.pictures.clips import cut_clip
from gallery_service.search.site_search import SearchRequest, SiteSearch
from gallery_service.settings import ServiceSettings
from gallery_service.web.app import create_app
from ingest.erasure_selection import Selection
from ingest.erasures import Erasure, add_erasures
from ingest.forgetting import forget, plan_forgetting
from ingest.shards import list_shards
from ingest.site import SiteConfig, load_site
from ingest.workspace import Workspace
from models.images import encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.erasure.conftest import person, where
from tests.gallery_service.pictures.test_clips import decode


@pytest.fixture
def search(site: SiteConfig) -> Iterator[SiteSearch]:
    found = SiteSearch(site, ServiceSettings(threads=1))
    yield found
    found.close()


def names(search: SiteSearch, top_k: int = 200) -> list[str]:
    image = encode_jpeg(synthetic.query_crop(0))
    return [match.tracklet_id for match in search.search_image(LOCAL, image, SearchRequest(top_k=top_k)).matches]


def forbid(site: SiteConfig, tracklet_id: str) -> None:
    """An erasure that gets as far as its lines."""
    workspace = Workspace(site)
    add_erasures(workspace.erasures, plan_forgetting(workspace, Selection(frozenset({tracklet_id}))).erasures)


def test_from_the_line_on_nothing_is_shown(site: SiteConfig, search: SiteSearch) -> None:
    before = names(search)
    nearest = before[0]
    clip = search.pictures.clip(LOCAL, nearest)
    assert clip and search.pictures.crop(LOCAL, nearest)
    forbid(site, nearest)
    assert names(search) == before[1:]
    assert names(search, top_k=3) == before[1:4]  # not one fewer
    for asked in (search.pictures.crop, search.pictures.clip):
        with pytest.raises(NotFound):
            asked(LOCAL, nearest)
    with pytest.raises(NotFound):
        search.search_tracklet(LOCAL, nearest, SearchRequest())
    assert nearest not in [m.tracklet_id for m in search.search_tracklet(LOCAL, before[1], SearchRequest()).matches]
    # The shards go next, by whichever command; who stayed stays, though the gallery knows nothing of it yet.
    forget(site, Selection(frozenset({before[1]})))
    assert names(search) == before[2:]


def test_a_time_that_is_erased_hides_who_was_there(site: SiteConfig, search: SiteSearch) -> None:
    before = names(search)
    shard = next(shard for shard in list_shards(Workspace(site)) if shard.camera_id == "cam1")
    add_erasures(Workspace(site).erasures, [Erasure(shard.video_sha256, 0.0, 1e6, None)])
    assert names(search) == [name for name in before if name.startswith("cam2/")]


def test_who_was_ingested_after_the_erasure_is_shown(site: SiteConfig, search: SiteSearch) -> None:
    """Somebody linked over an erased moment, in a shard that obeys, was not there in that moment."""
    workspace = Workspace(site)
    shard = next(shard for shard in list_shards(workspace) if shard.camera_id == "cam1")
    before = names(search)
    line = Erasure(shard.video_sha256, 1.0, 1.1, None)
    summary = json.loads((shard.path / "summary.json").read_text())
    summary["settings"]["erasures"] = [line.to_json()]
    (shard.path / "summary.json").write_text(json.dumps(summary))
    add_erasures(workspace.erasures, [line])
    assert names(search) == before


def test_an_unreadable_list_of_erasures_shows_nobody(site: SiteConfig, search: SiteSearch) -> None:
    nearest = names(search)[0]
    Workspace(site).erasures.write_text("{}\n")
    for asked in (search.pictures.crop, search.pictures.clip):
        with pytest.raises(ErasuresUnreadable):
            asked(LOCAL, nearest)
    with pytest.raises(ErasuresUnreadable):
        names(search)
    Workspace(site).erasures.unlink()
    assert names(search)


def test_clips_show_others_without_who_was_erased(site: SiteConfig, search: SiteSearch) -> None:
    """Two walk one after the other with half a second in common, in which the first is blacked out."""
    first, second = person(site), person(site, number=1)
    shown = decode(search.pictures.clip(LOCAL, second.tracklet_id))
    forbid(site, first.tracklet_id)
    after = decode(search.pictures.clip(LOCAL, second.tracklet_id))
    assert len(shown) == len(after)
    row = next(
        r
        for s in list_shards(Workspace(site))
        for r in s.tracklets().to_pylist()
        if r["tracklet_id"] == second.tracklet_id
    )
    begin = max(0.0, (row["start_pts_s"] + row["end_pts_s"] - site.clips.seconds) / 2)
    walk = synthetic.walks_of(1)[0]
    seen = 0
    for t, image in after:
        moment = begin + t
        if walk.begin_s + 0.1 < moment < walk.end_s - 0.1:
            x1, y1, x2, y2 = walk.box(moment)
            assert image[y1 + 4 : y2 - 4, x1 + 4 : x2 - 4].max() < 40
            seen += 1
    assert seen >= 5
    (_, last), (_, last_before) = after[-1], shown[-1]
    assert np.abs(last.astype(int) - last_before.astype(int)).max() < 20


def test_clips_leave_out_times_that_are_erased_as_a_whole(site: SiteConfig, search: SiteSearch) -> None:
    somebody = person(site, number=2)
    shard = next(shard for shard in list_shards(Workspace(site)) if shard.camera_id == "cam1")
    row = next(row for row in shard.tracklets().to_pylist() if row["tracklet_id"] == somebody.tracklet_id)
    whole = decode(search.pictures.clip(LOCAL, somebody.tracklet_id))
    add_erasures(Workspace(site).erasures, [Erasure(shard.video_sha256, 0.0, row["start_pts_s"] - 0.05, None)])
    part = decode(search.pictures.clip(LOCAL, somebody.tracklet_id))
    assert 0 < len(part) < len(whole)
    begin = max(0.0, (row["start_pts_s"] + row["end_pts_s"] - site.clips.seconds) / 2)
    assert all(begin + t >= row["start_pts_s"] - 0.06 for t, _ in part)


def test_a_clip_cut_before_is_not_in_memory_any_more(
    site: SiteConfig, search: SiteSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = person(site), person(site, number=3)
    search.pictures.clip(LOCAL, second.tracklet_id)
    assert search.pictures.wanted_clip(LOCAL, second.tracklet_id).ready

    erased: list[str] = []

    def erased_meanwhile(request: object) -> bytes:
        if not erased:
            forbid(site, first.tracklet_id)
            erased.append(first.tracklet_id)
            search.pictures.wanted_clip(LOCAL, second.tracklet_id)
        return cut_clip(request)  # type: ignore[arg-type]

    third = person(site, number=4)
    with monkeypatch.context() as patched:
        patched.setattr("gallery_service.pictures.tracklet_pictures.cut_clip", erased_meanwhile)
        search.pictures.clip(LOCAL, third.tracklet_id)
    assert not search.pictures.wanted_clip(LOCAL, second.tracklet_id).ready
    assert search.pictures.wanted_clip(LOCAL, third.tracklet_id).ready, "cut again, without who was erased"
    assert len(search.pictures._clips._clips) == 1


def test_a_clip_that_waits_is_not_cut_of_who_is_erased_meanwhile(
    site: SiteConfig, search: SiteSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = person(site), person(site, number=3)
    waiting = search.pictures.wanted_clip(LOCAL, first.tracklet_id)
    forbid(site, first.tracklet_id)
    with pytest.raises(NotFound):
        waiting.cut()
    monkeypatch.setattr(
        "gallery_service.pictures.tracklet_pictures.cut_clip",
        lambda request: (forbid(site, second.tracklet_id), cut_clip(request))[1],
    )
    with pytest.raises(NotFound):
        search.pictures.clip(LOCAL, second.tracklet_id)
    search.pictures.drop_clips()
    assert not search.pictures._clips._clips


def as_(name: str, role: Role, cameras: frozenset[str] | None) -> Caller:
    return Caller(name, role, None if cameras is None else {"toy": cameras})


def test_over_the_api(site: SiteConfig, search: SiteSearch) -> None:
    app = create_app([search], search.settings, Identities(SqliteFile(search.site.folder / "service.sqlite", ACCESS)))
    address = "/api/v1/sites/toy/erasures"
    somebody = person(site)
    with TestClient(app, client=("127.0.0.1", 1), base_url="http://localhost", headers={"host": "localhost"}) as client:
        for body in (
            {},
            {"camera": "cam1"},
            {"camera": "cam1", "until": "noon"},
            {"camera": "cam9", "everything": True},
            {"tracklets": ["x"]},
            {"tracklets": [somebody.tracklet_id], "who": "ada"},
        ):
            assert client.post(address, json=body).status_code == 422, body
        assert client.post(address, json={"tracklets": ["cam1/0123456789ab/000009"]}).status_code == 404
        wanted = {"tracklets": [somebody.tracklet_id], "reason": "asked by letter"}
        tried = client.post(address, json={**wanted, "dry_run": True})
        assert (tried.status_code, tried.json()["tracklets"]) == (200, [somebody.tracklet_id])
        assert tried.json()["erasures"] == [] and where(site, somebody)
        with Workspace(site).lock():
            begun = client.post(address, json=wanted)
        assert begun.status_code == 202 and begun.json()["erasures"][0]["state"] == "begun"
        assert somebody.tracklet_id not in names(search) and where(site, somebody)
        done = client.post(address, json=wanted)
        assert done.status_code == 201, done.text
        (erasure,) = done.json()["erasures"]
        assert erasure["clean"] and erasure["by"].startswith("local") and erasure["reason"] == "asked by letter"
        assert where(site, somebody) == []
        again = client.post(address, json=wanted)
        assert again.json()["erasures"] == [erasure]
        assert client.get(address).json()["erasures"] == [erasure]
        proof = client.get(f"{address}/{erasure['erasure_id']}").json()
        assert proof["tracklets"][0]["tracklet_id"] == somebody.tracklet_id
        assert client.get(f"{address}/e-20260101T000000-00000000").status_code == 404

        first = find_order(Workspace(site), erasure["erasure_id"])
        for day in range(1, 5):
            write_order(Workspace(site), replace(first, erasure_id=f"e-2020010{day}T000000-00000000"))
        listed, cursor = [], {}
        while True:
            page = client.get(address, params={"limit": 2, **cursor}).json()
            listed += [one["erasure_id"] for one in page["erasures"]]
            if page["next"] is None:
                break
            assert len(page["erasures"]) == 2
            cursor = {"cursor": page["next"]}
        assert listed == [erasure["erasure_id"], *(f"e-2020010{day}T000000-00000000" for day in (4, 3, 2, 1))]


@pytest.mark.parametrize(
    ("caller", "read", "write"),
    [
        (as_("v", Role.VIEWER, None), 403, 403),
        (as_("i", Role.INVESTIGATOR, None), 403, 403),
        (as_("a", Role.ADMIN, None), 200, 200),
        (as_("half", Role.ADMIN, frozenset({"cam1"})), 403, 200),
        (as_("other half", Role.ADMIN, frozenset({"cam2"})), 403, 403),
    ],
    ids=lambda value: value.name if isinstance(value, Caller) else str(value),
)
def test_only_admins_erase_and_only_what_they_may_see(
    site: SiteConfig, search: SiteSearch, caller: Caller, read: int, write: int
) -> None:
    app = create_app([search], search.settings, Identities(SqliteFile(search.site.folder / "service.sqlite", ACCESS)))
    app.dependency_overrides[caller_of] = lambda: caller
    address = "/api/v1/sites/toy/erasures"
    with TestClient(app, client=("127.0.0.1", 1), base_url="http://localhost") as client:
        assert client.get(address).status_code == read
        body = {"tracklets": [person(site).tracklet_id], "dry_run": True}
        assert client.post(address, json=body).status_code == write
        # A camera that an admin may not see is one that the site does not have.
        foreign = caller.may(Role.ADMIN) and not caller.sees("toy", "cam1")
        everything = client.post(address, json={"camera": "cam1", "everything": True, "dry_run": True})
        assert everything.status_code == (422 if foreign else write)


def test_a_search_from_somebody_who_was_erased_since_cannot_be_kept(site: SiteConfig, search: SiteSearch) -> None:
    nearest, other = names(search)[:2]
    asked = [search.search_tracklet(LOCAL, name, SearchRequest()).query_id for name in (nearest, other)]
    assert all(search.recent_query(LOCAL, query_id) for query_id in asked)
    forbid(site, nearest)
    assert [search.recent_query(LOCAL, query_id) is None for query_id in asked] == [True, False]


def test_retention_is_kept_by_the_service(site: SiteConfig, search: SiteSearch) -> None:
    somebody = person(site)
    now = synthetic.START + timedelta(days=30, minutes=10, seconds=4)  # cam1 began at 8:10
    assert keep_retention(site, now) is None
    content = (site.folder / "site.yaml").read_text()
    (site.folder / "site.yaml").write_text(content + "retention_days: 30\n")
    outcome = keep_retention(load_site(str(site.folder)), now)
    assert outcome is not None and outcome.clean
    assert somebody.tracklet_id in outcome.found.tracklets
    assert all(name.startswith("cam1/") for name in outcome.found.tracklets)
    assert outcome.found.untimed == ["cam2: day.mp4"]
    assert where(site, somebody) == []
    again = keep_retention(load_site(str(site.folder)), now)
    assert again is not None and (again.found.tracklets, again.proofs) == ([], [])
    assert names(search) and not set(names(search)) & set(outcome.found.tracklets)


def test_the_service_keeps_it_in_the_background_and_outlives_what_goes_wrong(
    site: SiteConfig, search: SiteSearch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = SiteSearch(site, search.settings)
    broken.current_site = lambda: 1 / 0  # type: ignore[assignment,method-assign,return-value]
    names(search)
    with (site.folder / "site.yaml").open("a") as file:
        file.write("retention_days: 1\n")  # everything at the site is older
    with keeping_retention([broken, search], every_s=0.05):
        give_up = time.monotonic() + 60
        while search.searchable_tracklets != 3 and time.monotonic() < give_up:
            time.sleep(0.05)
    assert search.searchable_tracklets == 3  # those of unknown time; without a request that would have noticed
    assert names(search) and not [name for name in names(search) if name.startswith("cam1/")]
    assert "retention of site 'toy' could not be kept" in caplog.text
    assert not [thread for thread in threading.enumerate() if thread.name == "retention"]


def test_nothing_of_a_clip_is_ever_on_disk(
    site: SiteConfig, search: SiteSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))  # nobody could write there
    assert search.pictures.clip(LOCAL, person(site).tracklet_id)
