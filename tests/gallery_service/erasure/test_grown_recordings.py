"""Whoever is erased while a recording grows, or after it has, is erased in all that it was and is."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gallery_service.caller import LOCAL
from gallery_service.databases.gallery import gallery_database
from gallery_service.erasure import erase as erasing
from gallery_service.erasure.erase import Outcome, erase, unfinished_orders, verify
from gallery_service.erasure.erased_tracklets import ErasedTracklets
from gallery_service.erasure.retention import keep_retention
from gallery_service.indexing.build import build_gallery
from gallery_service.investigations.schemas import HitDecision, NewInvestigation
from gallery_service.investigations.service import Investigations
from gallery_service.search.site_search import SearchRequest, SiteSearch
from gallery_service.settings import ServiceSettings
from ingest import pipeline
from ingest.erasure_selection import Selection, Span
from ingest.recording import RecordingJob
from ingest.shards import list_shards, remove_superseded
from ingest.site import SiteConfig, load_site
from ingest.workspace import Workspace
from tests.gallery_service import synthetic
from tests.ingest.conftest import write_video
from tests.ingest.test_pipeline import write_site

GROWN = "ab" * 32


@dataclass(frozen=True)
class Row:
    """As much of a row as is needed to ask whether somebody was erased."""

    tracklet_id: str
    camera_id: str
    recording_sha256: str
    start_pts_s: float
    end_pts_s: float


def shown(workspace: Workspace) -> list[str]:
    """The tracklets of camera 1's shards that a service that knows them shows."""
    rows = [
        Row(row["tracklet_id"], shard.camera_id, shard.video_sha256, row["start_pts_s"], row["end_pts_s"])
        for shard in list_shards(workspace, "cam1")
        for row in shard.tracklets().to_pylist()
    ]
    hidden = ErasedTracklets(workspace).among(rows)
    return [row.tracklet_id for row in rows if row.tracklet_id not in hidden]


def grow(workspace: Workspace) -> str:
    """Camera 1's recording becomes longer, and its shard is replaced; the sha256 of the shorter one."""
    (short,) = list_shards(workspace, "cam1")
    start = synthetic.START + timedelta(minutes=10)
    walks = synthetic.walks_of(1)
    synthetic.add_shard(workspace, 1, walks, sha256=GROWN, start=start, replaces=[short.video_sha256])
    remove_superseded(workspace)
    return short.video_sha256


def add_run(workspace: Workspace, name: str = "r-1") -> Path:
    """A training run of all that is there; its labels, which say who was taken for whom."""
    run = workspace.runs / name
    (run / "labels").mkdir(parents=True)
    shards = [f"{shard.camera_id}/{shard.shard_id}" for shard in list_shards(workspace)]
    (run / "shards.json").write_text(json.dumps({"schema": 1, "shards": shards}))
    (run / "run.json").write_text("{}")
    return run / "labels"


def erase_camera(site: SiteConfig) -> Outcome:
    return erase(site, Selection(spans={"cam1": Span()}), asked={"everything": True}, caller=LOCAL)


def test_erased_while_the_longer_state_is_ingested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_video(tmp_path / "whole.ts", 4.0, format_="mpegts").read_bytes()
    recording, folder = tmp_path / "live.ts", tmp_path / "site"
    write_site(folder, [{"id": "cam1", "videos": [str(recording)]}])
    recording.write_bytes(whole[: len(whole) // 2 // 188 * 188])
    os.utime(recording, (1e9, 1e9))
    site = load_site(str(folder))
    workspace = Workspace(site)
    pipeline.ingest_site(site, workers=1)
    (short,) = list_shards(workspace)
    assert shown(workspace)
    learned = add_run(workspace)
    recording.write_bytes(whole)
    os.utime(recording, (1e9 + 5, 1e9 + 5))
    publish = pipeline._Run._publish
    outcomes: list[Outcome] = []
    seen: list[list[str]] = []

    def publish_later(run: pipeline._Run, job: RecordingJob) -> None:
        thread = threading.Thread(target=lambda: outcomes.append(erase_camera(site)))
        thread.start()
        thread.join()
        publish(run, job)
        seen.append(shown(workspace))

    monkeypatch.setattr(pipeline._Run, "_publish", publish_later)
    pipeline.ingest_site(site, workers=1)
    assert outcomes[0].waiting is not None
    assert seen == [[]], "not for a moment"
    (long,) = list_shards(workspace)
    assert (long.replaces, long.summary["counts"]["tracklets"]) == ([short.video_sha256], 0)
    finished = keep_retention(site, datetime.now(UTC))
    assert finished is not None and finished.clean
    assert not learned.exists()
    assert unfinished_orders(workspace) == []
    pipeline.ingest_site(site, workers=1)
    assert [shard.path for shard in list_shards(workspace)] == [long.path]


def test_published_between_the_look_at_the_shards_and_the_lines(
    site: SiteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(site)
    bury = erasing._bury
    monkeypatch.setattr(erasing, "_bury", lambda *args: (bury(*args), grow(workspace)))
    with workspace.lock():
        assert erase_camera(site).waiting is not None
    assert shown(workspace) == []
    monkeypatch.undo()
    (order,) = unfinished_orders(workspace)
    assert GROWN not in order.recordings
    finished = keep_retention(site, datetime.now(UTC))
    assert finished is not None and finished.clean
    assert [shard.crops().num_rows for shard in list_shards(workspace, "cam1")] == [0]


def test_the_search_afterwards_looks_into_what_the_recording_has_become(site: SiteConfig) -> None:
    """Though the order knows only the shorter one: here nobody has carried the lines over."""
    workspace = Workspace(site)
    (proof,) = erase_camera(site).proofs
    assert verify(site, proof).clean
    grow(workspace)
    found = {place.place: len(place.found) for place in verify(site, proof).searched if place.found}
    assert found.keys() >= {"erasures.jsonl", "crops of the recordings"}
    assert found["crops of the recordings"] == 20


def test_hits_and_queries_of_the_shorter_state_go_too(site: SiteConfig) -> None:
    workspace = Workspace(site)
    (shard,) = list_shards(workspace, "cam1")
    first = shard.tracklets()["tracklet_id"].to_pylist()[0]
    search = SiteSearch(site, ServiceSettings(threads=1))
    try:
        cases = Investigations(search, LOCAL)
        case, _ = cases.begin(NewInvestigation(title="t", purpose="p"))
        cases.decide(case.investigation_id, first, HitDecision(decision="confirmed", note="red jacket"))
        cases.search_tracklet(case.investigation_id, first, SearchRequest())
        grow(workspace)
        build_gallery(site, threads=1, quiet=True)
        assert [hit.state for hit in cases.get(case.investigation_id).hits] == ["missing"]
        assert erase_camera(site).clean
        found = cases.get(case.investigation_id)
    finally:
        search.close()
    assert [(hit.state, hit.tracklet_id, hit.note) for hit in found.hits] == [("erased", None, "")]
    assert found.query_list == []
    kept = [row for table, row in gallery_database(workspace).rows() if table.startswith("investigation_")]
    assert not [row for row in kept if first in map(str, row)]


def test_what_was_learned_goes_although_an_ingest_made_the_shards_obey(tmp_path: Path) -> None:
    """While the order waited for the training that learned from them."""
    folder = tmp_path / "site"
    write_video(tmp_path / "a.mp4", 2.0)
    write_site(folder, [{"id": "cam1", "videos": [str(tmp_path / "a.mp4")]}])
    site = load_site(str(folder))
    workspace = Workspace(site)
    pipeline.ingest_site(site, workers=1)
    learned = add_run(workspace)
    with workspace.lock():
        assert erase_camera(site).waiting is not None
    pipeline.ingest_site(site, workers=1)
    assert shown(workspace) == []
    later = add_run(workspace, "r-2")
    finished = keep_retention(site, datetime.now(UTC))
    assert finished is not None and finished.clean
    assert [proof.learned_from for proof in finished.proofs] == [["run r-1"]]
    assert not learned.exists()
    assert later.exists(), "it has not seen who was erased"
