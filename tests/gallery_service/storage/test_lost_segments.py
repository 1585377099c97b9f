"""Segments that are gone: which shards have to be embedded again, and how long everybody who writes waits for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from gallery_service.databases.gallery import GALLERY
from gallery_service.databases.sqlite_file import SqliteFile
from gallery_service.storage import repository as repository_module
from gallery_service.storage.repository import GalleryRepository, StoredSegment
from gallery_service.storage.segments import day_of

DAY_US = 86_400_000_000
PER_DAY = 10


def a_gallery(path: Path, days: int) -> GalleryRepository:
    """A camera's shards, one for each day and with one tracklet of the day after; a segment for each day."""
    gallery = GalleryRepository(SqliteFile(path, GALLERY).open())
    for day in range(days):
        rows = [
            {
                "tracklet_id": f"cam1/v{day:03d}/{number}", "start_pts_s": 0.0, "end_pts_s": 1.0,
                "first_seen": (day + number // (PER_DAY - 1)) * DAY_US, "last_seen": (day + 1) * DAY_US,
                "time_source": "x", "crops": 4, "best_crop_offset": 0, "best_crop_length": 1, "quality": 0.5,
            }
            for number in range(PER_DAY)
        ]  # fmt: skip
        shard = {"shard": f"cam1/{day:03d}", "camera_id": "cam1", "recording_sha256": f"{day}", "summary_sha256": "x"}
        name = day_of(day * DAY_US)
        segment = StoredSegment(f"m/cam1/{name}/x", "m", "cam1", name, PER_DAY, 4 * PER_DAY)
        gallery.put_shard("m", {**shard, "tracklets": PER_DAY, "crops": 4 * PER_DAY}, rows, [segment])
    return gallery


def test_shards_with_a_tracklet_in_a_lost_segment_are_embedded_again(tmp_path: Path) -> None:
    gallery = a_gallery(tmp_path / "gallery.sqlite", 5)
    lost = gallery.remove_segments([f"m/cam1/{day_of(2 * DAY_US)}/x"])
    assert lost == {("m", "cam1/001"), ("m", "cam1/002")}
    assert set(gallery.embedded("m")) == {"cam1/000", "cam1/003", "cam1/004"}
    # Embedded again, these two shards' vectors come to lie in their days' segments once more.
    stale = {segment.day for segment in gallery.segments() if segment.stale}
    assert stale == {day_of(day * DAY_US) for day in (1, 3)}
    assert len(gallery.segments()) == 4
    assert gallery.remove_segments(["m/cam1/nothing/x"]) == set()
    gallery.close()


def test_many_take_no_longer_for_each_than_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever searches waits until it is written. What was done for every row of the camera is done once, not for every
    segment."""
    looked = 0

    def counted(first_seen: int | None) -> str:
        nonlocal looked
        looked += 1
        return day_of(first_seen)

    monkeypatch.setattr(repository_module, "day_of", counted)
    for days in (5, 40):
        gallery = a_gallery(tmp_path / f"{days}.sqlite", days)
        names = [segment.name for segment in gallery.segments()]
        looked = 0
        assert len(gallery.remove_segments(names)) == days
        assert looked <= 2 * days * PER_DAY
        assert gallery.segments() == []
        gallery.close()
