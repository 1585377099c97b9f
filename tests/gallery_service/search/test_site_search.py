"""Searching one site: against brute force, and while things change on disk."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gallery_service.audit.entry_form import entry_json
from gallery_service.audit.trail import AuditTrail, EntryFilter
from gallery_service.caller import LOCAL, Caller, Role
from gallery_service.databases.gallery import gallery_database
from gallery_service.errors import BadQuery, NotFound, NotIndexed
from gallery_service.indexing.build import build_gallery
from gallery_service.search.site_info import describe_site, summarise_site
from gallery_service.search.site_search import SearchRequest, SiteSearch
from gallery_service.settings import ServiceSettings
from gallery_service.storage.repository import GalleryRepository
from gallery_service.storage.segments import read_segment
from ingest.shards import list_shards
from ingest.site import SiteConfig, load_site
from ingest.workspace import Workspace
from models.bundle import ModelStore
from models.embedder import Embedder
from models.images import ImageError, encode_jpeg
from tests.gallery_service import synthetic
from tests.gallery_service.conftest import copy_site

SETTINGS = ServiceSettings(threads=1)


@pytest.fixture(scope="module")
def found(built_gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteSearch]:
    """The indexed site, for tests that only ask."""
    search = SiteSearch(copy_site(built_gallery, tmp_path_factory.mktemp("asked")), SETTINGS)
    yield search
    search.close()


@pytest.fixture
def search(indexed_site: SiteConfig) -> Iterator[SiteSearch]:
    """The indexed site, for tests that change it."""
    opened = SiteSearch(indexed_site, SETTINGS)
    yield opened
    opened.close()


def truth(site: SiteConfig) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Vectors, and rows with the quality of the best crop, read without anything that is tested here."""
    workspace = Workspace(site)
    version = (workspace.models / "current").read_text().strip()
    vectors, rows = {}, []
    for shard in list_shards(workspace):
        name = f"{shard.camera_id}/{shard.shard_id}"
        for path in sorted((workspace.gallery / version / shard.camera_id).glob("*/*.safetensors")):
            segment = read_segment(workspace.gallery, str(path.relative_to(workspace.gallery).with_suffix("")))
            of_shard = [row for row, (owner, _) in enumerate(segment.rows()) if owner == name]
            vectors |= {segment.tracklet_ids[row]: segment.means[row].astype(float) for row in of_shard}
        crops = shard.crops().to_pylist()
        for row in shard.tracklets().to_pylist():
            best = max(crop["quality"] for crop in crops if crop["tracklet_id"] == row["tracklet_id"])
            rows.append({**row, "quality": best})
    return vectors, rows


def brute_force(
    vectors: dict[str, np.ndarray], rows: list[dict[str, Any]], query_id: str, request: SearchRequest
) -> list[tuple[str, float]]:
    scored = []
    for row in rows:
        name, camera, first, last = (row[key] for key in ("tracklet_id", "camera_id", "first_seen", "last_seen"))
        if name == query_id or (request.cameras and camera not in request.cameras):
            continue
        if camera in request.exclude_cameras:
            continue
        if request.since and (last is None or last < datetime.fromisoformat(request.since)):
            continue
        if request.until and (first is None or first > datetime.fromisoformat(request.until)):
            continue
        if request.min_quality is not None and np.float32(row["quality"]) < np.float32(request.min_quality):
            continue
        scored.append((str(name), min(1.0, round(float(vectors[str(name)] @ vectors[query_id]), 6))))
    return sorted(scored, key=lambda one: (-one[1], one[0]))[: request.top_k]


MOMENTS = st.none() | st.integers(-5, 25 * 60).map(
    lambda s: (synthetic.START + timedelta(seconds=s)).astimezone(UTC).isoformat()
)


@given(
    st.integers(0, 12),
    st.lists(st.sampled_from(["cam1", "cam2"]), max_size=2),
    st.lists(st.sampled_from(["cam1", "cam2"]), max_size=2),
    MOMENTS,
    MOMENTS,
    st.none() | st.sampled_from([0.0, 0.575, 0.625, 0.725, 0.9]),
    st.integers(1, 15),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_filters_give_what_brute_force_gives(
    found: SiteSearch,
    number: int,
    cameras: list[str],
    excluded: list[str],
    since: str | None,
    until: str | None,
    min_quality: float | None,
    top_k: int,
) -> None:
    vectors, rows = truth(found.site)
    query_id = sorted(vectors)[number]
    if since and until and since > until:
        since, until = until, since
    request = SearchRequest(top_k, cameras, excluded, since, until, min_quality=min_quality)
    answer = found.search_tracklet(LOCAL, query_id, request)
    expected = brute_force(vectors, rows, query_id, request)
    assert [(match.tracklet_id, pytest.approx(match.score, abs=2e-6)) for match in answer.matches] == expected


def test_a_tracklet_of_unknown_time_is_found_only_without_a_time_filter(found: SiteSearch) -> None:
    query = encode_jpeg(synthetic.query_crop(1))
    everything = found.search_image(LOCAL, query, SearchRequest(top_k=50)).matches
    assert len(everything) == 13
    assert sum(match.first_seen is None for match in everything) == 3
    for request in (SearchRequest(50, since="1971-01-01T00:00:00Z"), SearchRequest(50, until="2100-01-01T00:00:00Z")):
        timed = found.search_image(LOCAL, query, request).matches
        assert len(timed) == 10
        assert all(match.first_seen for match in timed)


def test_an_image_is_scored_against_the_tracklet_means(found: SiteSearch) -> None:
    image = synthetic.query_crop(2)
    bundle = ModelStore(Workspace(found.site).models).current()
    assert bundle is not None
    query = Embedder(bundle, threads=1).embed([image])[0].astype(float)
    from models.images import decode_image

    png = encode_png(image)
    assert np.array_equal(decode_image(png, what="query"), image)
    vectors, _ = truth(found.site)
    answer = found.search_image(LOCAL, png, SearchRequest(top_k=50))
    assert {match.tracklet_id for match in answer.matches} == set(vectors)
    for match in answer.matches:
        assert match.score == pytest.approx(float(vectors[match.tracklet_id] @ query), abs=1e-4)
    assert [match.score for match in answer.matches] == sorted((m.score for m in answer.matches), reverse=True)


def encode_png(image: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".png", image)[1].tobytes()


def test_re_ranking_reorders_and_keeps_scores(found: SiteSearch) -> None:
    from models.matching.rerank import k_reciprocal_rerank

    vectors, _ = truth(found.site)
    query_id = "cam1/" + sorted(vectors)[0].split("/", 1)[1]
    plain = found.search_tracklet(LOCAL, query_id, SearchRequest(top_k=50)).matches
    reranked = found.search_tracklet(LOCAL, query_id, SearchRequest(top_k=50, rerank=True)).matches
    assert {m.tracklet_id: m.score for m in plain} == {m.tracklet_id: m.score for m in reranked}
    candidates = np.stack([vectors[match.tracklet_id] for match in plain]).astype(np.float32)
    distance = np.asarray(k_reciprocal_rerank(vectors[query_id][None].astype(np.float32), candidates))[0]
    order = [plain[i].tracklet_id for i in sorted(range(len(plain)), key=lambda i: (round(float(distance[i]), 6), i))]
    assert [match.tracklet_id for match in reranked] == order
    top = found.search_tracklet(LOCAL, query_id, SearchRequest(top_k=3, rerank=True)).matches
    assert [match.tracklet_id for match in top] == order[:3]


def recorded(search: SiteSearch) -> list[dict[str, Any]]:
    """The audit log, the newest first."""
    return [entry_json(entry, stored) for entry, stored in search.audit.newest(EntryFilter(), None, 100)]


def test_every_search_is_recorded_and_no_image_is_kept(search: SiteSearch) -> None:
    image = encode_jpeg(synthetic.query_crop(0))
    request = SearchRequest(2, ["cam2"], (), "2026-03-01T08:00:00Z", None, False, "a lost child")
    answer = search.search_image(LOCAL, image, request)
    followed = search.search_tracklet(LOCAL, answer.matches[0].tracklet_id, SearchRequest(top_k=1))
    assert search.audit.verify().problem is None
    second, first = recorded(search)
    assert (first["who"], first["action"], first["purpose"]) == ("local", "search", "a lost child")
    assert first["details"] == {
        "query_id": answer.query_id,
        "model_version": answer.model_version,
        "query_image_sha256": [hashlib.sha256(image).hexdigest()],
        "query_tracklet_id": None,
        "filters": {
            "cameras": ["cam2"], "exclude_cameras": [], "since": "2026-03-01T08:00:00Z", "until": None,
            "min_quality": None, "top_k": 2, "rerank": False, "investigation": None,
        },
        "shown": [match.tracklet_id for match in answer.matches],
    }  # fmt: skip
    assert abs((datetime.fromisoformat(first["at"]) - datetime.now(UTC)).total_seconds()) < 300
    assert second["details"]["query_tracklet_id"] == answer.matches[0].tracklet_id
    assert second["details"]["query_image_sha256"] == []
    assert second["details"]["shown"] == [match.tracklet_id for match in followed.matches]
    search.close()
    for file in Workspace(search.site).gallery.rglob("*"):
        assert not file.is_file() or image not in file.read_bytes()


def test_a_search_that_cannot_be_recorded_shows_nothing(search: SiteSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(AuditTrail, "append", broken)
    with pytest.raises(OSError, match="disk full"):
        search.search_image(LOCAL, encode_jpeg(synthetic.query_crop(0)), SearchRequest())


def test_a_running_search_takes_up_new_and_removed_shards(search: SiteSearch) -> None:
    before = search.refresh()
    assert search.refresh() is before
    workspace = Workspace(search.site)
    folder = synthetic.add_shard(workspace, 1, synthetic.walks_of(1, 2), sha256=synthetic.pseudo_sha256("new"))
    build_gallery(search.site, threads=1, quiet=True)
    answer = search.search_image(LOCAL, encode_jpeg(synthetic.query_crop(0)), SearchRequest(top_k=50))
    assert len(answer.matches) == 15
    shutil.rmtree(folder)
    build_gallery(search.site, threads=1, quiet=True)
    answer = search.search_image(LOCAL, encode_jpeg(synthetic.query_crop(0)), SearchRequest(top_k=50))
    assert len(answer.matches) == 13


def test_a_promoted_model_is_used_once_it_has_indexed_the_site(search: SiteSearch) -> None:
    query = encode_jpeg(synthetic.query_crop(0))
    old = search.search_image(LOCAL, query, SearchRequest()).model_version
    new = synthetic.add_model(search.site, seed=2).version
    assert new != old
    meanwhile = search.search_image(LOCAL, query, SearchRequest())
    assert meanwhile.model_version == old
    assert meanwhile.notice is not None
    assert new in meanwhile.notice
    assert "gallery_service index" in meanwhile.notice
    build_gallery(search.site, threads=1, quiet=True)
    after = search.search_image(LOCAL, query, SearchRequest(top_k=50))
    assert (after.model_version, after.notice) == (new, None)
    vectors, _ = truth(search.site)
    bundle = ModelStore(Workspace(search.site).models).current()
    assert bundle is not None
    embedded = Embedder(bundle, threads=1).embed([synthetic.query_crop(0)])[0]
    best = max(float(vector @ embedded) for vector in vectors.values())
    assert after.matches[0].score == pytest.approx(best, abs=0.01)
    ModelStore(Workspace(search.site).models).rollback()
    assert search.search_image(LOCAL, query, SearchRequest()).model_version == old


def test_a_segment_damaged_under_a_running_service_does_not_stop_it(
    search: SiteSearch, caplog: pytest.LogCaptureFixture
) -> None:
    everything = len(search.refresh().shards)
    workspace = Workspace(search.site)
    segment = next(workspace.gallery.rglob("*.safetensors"))
    name = str(segment.relative_to(workspace.gallery).with_suffix(""))
    means = read_segment(workspace.gallery, name).means.tobytes()
    segment.write_bytes(segment.read_bytes().replace(means, means[:-1] + bytes([means[-1] ^ 1])))
    restarted = SiteSearch(search.site, SETTINGS)
    left = restarted.search_image(LOCAL, encode_jpeg(synthetic.query_crop(0)), SearchRequest(top_k=50))
    assert 0 < len(left.matches) < everything
    assert left.notice is not None
    assert "not searchable yet" in left.notice
    assert str(segment) in caplog.text
    build_gallery(search.site, threads=1, quiet=True)
    again = restarted.search_image(LOCAL, encode_jpeg(synthetic.query_crop(0)), SearchRequest(top_k=50))
    assert (len(again.matches), again.notice) == (everything, None)
    restarted.close()


def test_a_changed_site_yaml_holds_at_once(search: SiteSearch) -> None:
    query = encode_jpeg(synthetic.query_crop(0))
    clips = [match.clip_url for match in search.search_image(LOCAL, query, SearchRequest(top_k=50)).matches]
    # The shard whose recording is gone has none.
    assert clips.count(None) == 3
    content = yaml.safe_load(search.site.file.read_text())
    content["clips"]["enabled"] = False
    search.site.file.write_text(yaml.safe_dump(content))
    matches = search.search_image(LOCAL, query, SearchRequest(top_k=50)).matches
    assert all(match.clip_url is None for match in matches)
    with pytest.raises(NotFound, match="clips are off"):
        search.pictures.clip(LOCAL, matches[0].tracklet_id)
    search.site.file.write_text("not a site")
    assert search.search_image(LOCAL, query, SearchRequest()).matches


def test_a_mask_drawn_or_clips_turned_off_hold_for_the_very_next_clip(search: SiteSearch) -> None:
    """Nobody searches in between."""
    matches = search.search_image(LOCAL, encode_jpeg(synthetic.query_crop(0)), SearchRequest()).matches
    playable = next(match.tracklet_id for match in matches if match.clip_url is not None)
    before = search.pictures.clip(LOCAL, playable)
    content = yaml.safe_load(search.site.file.read_text())
    for camera in content["cameras"]:
        camera["mask"] = [[[0, 0], [1, 0], [1, 1], [0, 1]]]
    search.site.file.write_text(yaml.safe_dump(content))
    assert search.pictures.clip(LOCAL, playable) != before
    content["clips"]["enabled"] = False
    search.site.file.write_text(yaml.safe_dump(content))
    with pytest.raises(NotFound, match="clips are off"):
        search.pictures.clip(LOCAL, playable)
    content["clips"]["enabled"] = True
    content["cameras"] = [camera for camera in content["cameras"] if not playable.startswith(camera["id"])]
    search.site.file.write_text(yaml.safe_dump(content))
    with pytest.raises(NotFound, match="recording"):
        search.pictures.clip(LOCAL, playable)


def test_a_camera_added_under_a_running_service_can_be_asked_for_at_once(search: SiteSearch) -> None:
    query = encode_jpeg(synthetic.query_crop(0))
    content = yaml.safe_load(search.site.file.read_text())
    content["cameras"].append({"id": "cam9", "videos": []})
    search.site.file.write_text(yaml.safe_dump(content))
    assert search.search_image(LOCAL, query, SearchRequest(cameras=["cam9"])).matches == []


def test_a_damaged_model_leaves_the_gallery_that_was_loaded(
    search: SiteSearch, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = encode_jpeg(synthetic.query_crop(0))
    before = search.refresh()
    store = ModelStore(Workspace(search.site).models)
    other = synthetic.add_model(search.site, seed=2)
    build_gallery(search.site, threads=1, quiet=True)
    onnx = store.folder / other.version / "model.onnx"
    onnx.write_bytes(onnx.read_bytes()[:-9])
    assert search.search_image(LOCAL, query, SearchRequest()).model_version == before.bundle.version
    assert summarise_site(search, LOCAL).model_version == before.bundle.version
    assert caplog.text.count("keeping the gallery loaded before") == 1, "not tried with every request"
    monkeypatch.setattr("gallery_service.search.live_gallery._AFTER_FAILURE_S", 0.0)
    search._next_attempt = 0.0
    tried: list[int] = []
    load = ModelStore.load
    monkeypatch.setattr(ModelStore, "load", lambda *arguments: tried.append(1) or load(*arguments))
    for _ in range(3):
        search.refresh()
    assert len(tried) == 3 and caplog.text.count("keeping the gallery loaded before") == 1, "said again"


def test_a_replaced_recording_has_no_clips(search: SiteSearch) -> None:
    for path in search.site.folder.glob("recordings/*/*.mp4"):
        synthetic.write_recording(path, 1, [], seconds=2)
    matches = search.search_image(LOCAL, encode_jpeg(synthetic.query_crop(0)), SearchRequest(top_k=50)).matches
    assert all(match.clip_url is None for match in matches)
    with pytest.raises(NotFound, match="recording"):
        search.pictures.clip(LOCAL, matches[0].tracklet_id)


def test_a_site_with_one_camera_says_so(tmp_path: Path, built_site: Path) -> None:
    site = synthetic.write_site(tmp_path / "lone", cameras=1, name="lone")
    synthetic.add_shard(Workspace(site), 1, synthetic.walks_of(1, 2), sha256=synthetic.pseudo_sha256("x"))
    shutil.copytree(built_site / "models", Workspace(site).models)
    build_gallery(site, threads=1, quiet=True)
    search = SiteSearch(site, SETTINGS)
    answer = search.search_image(LOCAL, encode_jpeg(synthetic.query_crop(0)), SearchRequest())
    assert len(answer.matches) == 2
    assert answer.notice is not None
    assert "at least two" in answer.notice
    search.close()


def test_the_crop_is_the_best_one_as_it_was_stored(found: SiteSearch) -> None:
    for shard in list_shards(Workspace(found.site)):
        crops = shard.crops().to_pylist()
        for tracklet_id in {crop["tracklet_id"] for crop in crops}:
            best = max((c for c in crops if c["tracklet_id"] == tracklet_id), key=lambda crop: crop["quality"])
            assert found.pictures.crop(LOCAL, tracklet_id) == shard.read_jpeg(best["offset"], best["length"])


def test_an_erased_crop_is_gone_before_the_index_runs_again(search: SiteSearch) -> None:
    match = search.search_image(LOCAL, encode_jpeg(synthetic.query_crop(0)), SearchRequest()).matches[0]
    shutil.rmtree(Workspace(search.site).shards / match.camera_id)
    with pytest.raises(NotFound, match="gone"):
        search.pictures.crop(LOCAL, match.tracklet_id)


def searched(search: SiteSearch) -> Callable[[Caller, str], object]:
    return lambda caller, tracklet_id: search.search_tracklet(caller, tracklet_id, SearchRequest())


@pytest.mark.parametrize("tracklet_id", ["", "cam1", "cam1/x/1", "../../site.yaml", "cam1/../../site.yaml", "a" * 9999])
def test_an_unknown_tracklet_is_an_error(found: SiteSearch, tracklet_id: str) -> None:
    for ask in (found.pictures.crop, found.pictures.clip, searched(found)):
        with pytest.raises(NotFound, match="no tracklet"):
            ask(LOCAL, tracklet_id)


@pytest.mark.parametrize("top_k", [0, -1, 2001])
def test_top_k_has_bounds(found: SiteSearch, top_k: int) -> None:
    with pytest.raises(BadQuery, match="1 to 200"):
        found.search_image(LOCAL, encode_jpeg(synthetic.query_crop(0)), SearchRequest(top_k=top_k))


def test_what_is_no_image_is_refused_and_not_recorded(search: SiteSearch) -> None:
    for data in (b"", b"GIF89a" + bytes(100), encode_jpeg(synthetic.query_crop(0))[:200]):
        with pytest.raises(ImageError, match="uploaded image"):
            search.search_image(LOCAL, data, SearchRequest())
    assert recorded(search) == []


def test_a_site_that_was_not_indexed_names_the_command(site: SiteConfig) -> None:
    search = SiteSearch(site, SETTINGS)
    with pytest.raises(NotIndexed, match="gallery_service index toy"):
        search.refresh()
    assert summarise_site(search, LOCAL).model_version is None
    build_gallery(load_site(str(site.folder)), threads=1, quiet=True)
    assert summarise_site(search, LOCAL).tracklets == 13
    search.close()


def test_info_counts_what_is_there(found: SiteSearch) -> None:
    info = describe_site(found, LOCAL)
    assert [(c.camera_id, c.tracklets, c.crops) for c in info.cameras] == [("cam1", 5, 20), ("cam2", 8, 32)]
    assert (info.tracklets, info.crops, info.timezone, info.clips) == (13, 52, "Europe/Berlin", True)
    assert info.first_seen == "2026-03-01T08:10:00.500000Z"
    assert info.last_seen == "2026-03-01T08:20:10.600000Z"


def only(*cameras: str, site: str = "toy") -> Caller:
    """Somebody who may see these cameras."""
    return Caller("somebody", Role.ADMIN, {site: frozenset(cameras)})


def test_narrow_rights_lose_no_hit_among_what_may_be_seen(found: SiteSearch) -> None:
    """Also when as many better matches as are asked for lie in cameras that may not be seen."""
    vectors, rows = truth(found.site)
    for query_id in (name for name in sorted(vectors) if name.startswith("cam2")):
        request = SearchRequest(top_k=3)
        answer = found.search_tracklet(only("cam2"), query_id, request)
        expected = brute_force(vectors, rows, query_id, SearchRequest(top_k=3, cameras=["cam2"]))
        assert [(match.tracklet_id, pytest.approx(match.score, abs=2e-6)) for match in answer.matches] == expected
    image = encode_jpeg(synthetic.query_crop(0))
    assert len(found.search_image(only("cam1"), image, SearchRequest(top_k=50)).matches) == 5
    assert len(found.search_image(only("cam1", "*"), image, SearchRequest(top_k=50)).matches) == 13
    assert found.search_image(only("cam1", site="elsewhere"), image, SearchRequest(top_k=50)).matches == []


def test_what_may_not_be_seen_looks_as_if_it_were_not_there(found: SiteSearch) -> None:
    everything = found.search_image(LOCAL, encode_jpeg(synthetic.query_crop(0)), SearchRequest(top_k=50)).matches
    hidden = next(match.tracklet_id for match in everything if match.camera_id == "cam2" and match.clip_url)
    absent = hidden[:-1] + "x"
    for ask in (found.pictures.crop, found.pictures.clip, searched(found)):
        with pytest.raises(NotFound) as refused:
            ask(only("cam1"), hidden)
        with pytest.raises(NotFound) as missing:
            ask(only("cam1"), absent)
        assert str(refused.value).replace(hidden, "it") == str(missing.value).replace(absent, "it")
        assert ask(only("cam2"), hidden)
    for cameras in (["cam2"], ["cam7"]):
        with pytest.raises(BadQuery, match=r"no camera '\w+'; it has cam1$"):
            found.search_image(only("cam1"), encode_jpeg(synthetic.query_crop(0)), SearchRequest(cameras=cameras))
    info = describe_site(found, only("cam1"))
    assert [(c.camera_id, c.tracklets) for c in info.cameras] == [("cam1", 5)]
    assert (info.tracklets, info.last_seen) == (5, "2026-03-01T08:10:10.800000Z")
    assert summarise_site(found, only("cam1")).cameras == 1


def test_looking_is_recorded_once_where_no_recorded_search_has_shown_it(search: SiteSearch) -> None:
    match = search.search_image(only("*"), encode_jpeg(synthetic.query_crop(0)), SearchRequest(top_k=1)).matches[0]
    shown = match.tracklet_id

    def actions() -> list[tuple[str, str]]:
        return [(entry["who"], entry["action"]) for entry in reversed(recorded(search))][1:]

    search.pictures.crop(only("*"), shown)
    assert actions() == []
    for _ in range(2):
        search.pictures.crop(only("*"), shown, opened=True)
    assert actions() == [("somebody", "crop")]
    for _ in range(3):
        search.pictures.crop(LOCAL, shown)
    assert actions()[1:] == [("local", "crop")], "somebody else's search shows nothing to this one"
    if match.clip_url is not None:
        for _ in range(2):
            search.pictures.clip(LOCAL, shown)
        assert actions()[2:] == [("local", "clip")]
    assert recorded(search)[0]["details"] == {"tracklet_id": shown, "camera_id": match.camera_id}


def test_a_look_that_cannot_be_recorded_is_not_granted(search: SiteSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    match = search.search_image(LOCAL, encode_jpeg(synthetic.query_crop(0)), SearchRequest(top_k=50)).matches
    playable = next(one.tracklet_id for one in match if one.clip_url is not None)

    def broken(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(AuditTrail, "append", broken)
    for look in (search.pictures.clip, lambda caller, name: search.pictures.crop(caller, name, opened=True)):
        for _ in range(2):
            with pytest.raises(OSError, match="disk full"):
                look(LOCAL, playable)


def test_a_site_can_demand_a_purpose(search: SiteSearch) -> None:
    query = encode_jpeg(synthetic.query_crop(0))
    content = yaml.safe_load(search.site.file.read_text())
    search.site.file.write_text(yaml.safe_dump({**content, "audit": {"purpose": "required"}}))
    for purpose in (None, "", "  "):
        with pytest.raises(BadQuery, match="why somebody searches"):
            search.search_image(LOCAL, query, SearchRequest(purpose=purpose))
    name = search.search_image(LOCAL, query, SearchRequest(purpose="case 12")).matches[0].tracklet_id
    with pytest.raises(BadQuery, match="why somebody searches"):
        search.search_tracklet(LOCAL, name, SearchRequest())
    assert describe_site(search, LOCAL).purpose_required


def test_a_gallery_put_back_from_elsewhere_is_taken_up(search: SiteSearch, built_gallery: Path) -> None:
    """Also where its rows count the same: it is the file that is another."""
    everything = len(search.refresh().shards)
    folder = Workspace(search.site).gallery
    folder.rename(folder.with_name("moved"))
    with pytest.raises(NotIndexed, match="gallery_service index"):
        search.refresh()
    shutil.copytree(built_gallery / "gallery", folder)
    repository = GalleryRepository(gallery_database(Workspace(search.site)).open())
    shard, tracklet_id, _ = repository.crop_counts()[0]
    repository.tombstone([(shard, tracklet_id)])
    repository.close()
    assert len(search.refresh().shards) == everything - 1


def test_times_are_compared_as_times(search: SiteSearch) -> None:
    """As text, a whole second comes after the fractions that follow it."""
    workspace = Workspace(search.site)
    for number, fraction in ((1, 500_000), (2, 0)):
        start = synthetic.START.replace(year=2020, microsecond=fraction)
        walk = synthetic.Walk(1, 0.0, 2.0)
        sha256 = synthetic.pseudo_sha256(str(number))
        synthetic.add_shard(workspace, number, [walk], sha256=sha256, start=start)
    build_gallery(search.site, threads=1, quiet=True)
    assert describe_site(search, LOCAL).first_seen == "2020-03-01T08:00:00Z"
