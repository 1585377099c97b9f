"""A recording that is ingested anew numbers its tracklets anew: until the gallery is indexed it shows those of before,
and an erasure reaches who was meant, and nobody else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gallery_service.caller import LOCAL
from gallery_service.databases.gallery import gallery_database
from gallery_service.erasure.erase import Outcome, erase, would_erase
from gallery_service.erasure.erased_tracklets import ErasedTracklets
from gallery_service.errors import Conflict
from gallery_service.indexing.build import build_gallery
from gallery_service.storage.repository import GalleryRepository
from ingest.erasure_selection import Selection, Span
from ingest.shards import list_shards
from ingest.site import SiteConfig
from ingest.workspace import Workspace
from models.bundle import ModelStore
from tests.gallery_service import synthetic

BEGIN = synthetic.START + timedelta(minutes=10)
FIRST_WALK = Selection(spans={"cam1": Span(until=BEGIN + timedelta(seconds=0.9))})


@pytest.fixture
def renumbered(site: SiteConfig) -> SiteConfig:
    """Camera 1's recording has been ingested anew: the same people, counted from the other end."""
    workspace = Workspace(site)
    (shard,) = list_shards(workspace, "cam1")
    walks = list(reversed(synthetic.walks_of(1)))
    sha256 = shard.video_sha256
    synthetic.add_shard(workspace, 1, walks, sha256=sha256, start=BEGIN, settings="b", generation=2)
    return site


def shown(site: SiteConfig) -> dict[float, str]:
    """The tracklets of camera 1 that a service shows: by when they begin, the ids."""
    repository = GalleryRepository(gallery_database(Workspace(site)).open(), ErasedTracklets(Workspace(site)))
    try:
        with repository.engine.connect() as connection:
            ids = connection.exec_driver_sql("SELECT tracklet_id FROM tracklets WHERE camera_id = 'cam1'").scalars()
            rows = repository.seen_by(None).tracklets(list(ids)).values()
        assert repository.erased_tracklets().keys().isdisjoint(row.tracklet_id for row in rows)
    finally:
        repository.close()
    return {row.start_pts_s: row.tracklet_id for row in rows}


def ids_in_shard(site: SiteConfig) -> dict[float, str]:
    """As `shown`, of camera 1's shard."""
    (shard,) = list_shards(Workspace(site), "cam1")
    return {row["start_pts_s"]: row["tracklet_id"] for row in shard.tracklets().to_pylist()}


def erase_by_id(site: SiteConfig, tracklet_id: str) -> Outcome:
    return erase(site, Selection(frozenset({tracklet_id})), asked={"tracklets": [tracklet_id]}, caller=LOCAL)


def test_a_time_hides_who_was_there_and_not_who_has_their_number_now(renumbered: SiteConfig) -> None:
    before, numbered = shown(renumbered), ids_in_shard(renumbered)
    assert before.keys() == numbered.keys() and set(before.values()) == set(numbered.values()) and before != numbered
    with Workspace(renumbered).lock():
        outcome = erase(renumbered, FIRST_WALK, asked={}, caller=LOCAL)
        assert outcome.waiting and outcome.found.tracklets == [numbered[0.5]]
        hidden = before.keys() - shown(renumbered).keys()
        # The second walk begins while the first ends: nobody can say from its row that it is another person.
        assert hidden == {0.5, 2.5}
    assert erase(renumbered, FIRST_WALK, asked={}, caller=LOCAL).clean
    assert shown(renumbered) == ids_in_shard(renumbered) == {s: name for s, name in numbered.items() if s != 0.5}


def test_an_id_that_means_somebody_else_by_now_erases_nobody(renumbered: SiteConfig) -> None:
    before = shown(renumbered)
    selection = Selection(frozenset({before[0.5]}))
    with pytest.raises(Conflict, match="index toy"):
        would_erase(renumbered, selection, LOCAL)
    with pytest.raises(Conflict, match="index toy"):
        erase_by_id(renumbered, before[0.5])
    assert shown(renumbered) == before
    build_gallery(renumbered, quiet=True)
    now = shown(renumbered)
    assert now.keys() == before.keys() and now[0.5] != before[0.5]
    assert erase_by_id(renumbered, now[0.5]).clean
    assert shown(renumbered) == ids_in_shard(renumbered) == {s: name for s, name in now.items() if s != 0.5}


def test_rows_of_before_go_though_nothing_can_be_embedded(renumbered: SiteConfig) -> None:
    bundle = ModelStore(Workspace(renumbered).models).current()
    assert bundle is not None
    (bundle.path / "model.onnx").write_bytes(b"x")
    erase(renumbered, FIRST_WALK, asked={}, caller=LOCAL)
    repository = GalleryRepository(gallery_database(Workspace(renumbered)).open())
    try:
        (camera, _) = repository.seen_by(None).cameras()
        rows = repository.seen_by(None).tracklets(list(ids_in_shard(renumbered).values()))
    finally:
        repository.close()
    assert camera.tracklets == 3 and 0.5 not in {row.start_pts_s for row in rows.values()}
