"""What the database keeps of a shard: one row for it, and one for each of its tracklets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.atomic import sha256_file

if TYPE_CHECKING:
    from ingest.shards import Shard


def shard_name(shard: Shard) -> str:
    """`<camera>/<shard-id>`, as the gallery calls a shard."""
    return f"{shard.camera_id}/{shard.path.name}"


def shard_rows(shard: Shard) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The columns of `ShardRow`, and those of `TrackletRow` for each tracklet, but for `shard` and `camera_id`.

    Raises:
        ShardError, OSError: it cannot be read.
    """
    from ingest.shards import SUMMARY

    crops, tracklets = shard.crops(), shard.tracklets()
    best: dict[str, tuple[float, float, int, int]] = {}
    count: dict[str, int] = {}
    names = ("tracklet_id", "quality", "detector_score", "offset", "length")
    for owner, quality, score, offset, length in zip(*(crops.column(n).to_pylist() for n in names), strict=True):
        count[owner] = count.get(owner, 0) + 1
        if owner not in best or (quality, score) > best[owner][:2]:  # the earliest of equals stays
            best[owner] = (quality, score, offset, length)
    rows = []
    columns = ("tracklet_id", "start_pts_s", "end_pts_s", "time_source")
    seen = (microseconds(tracklets, "first_seen"), microseconds(tracklets, "last_seen"))
    values = zip(*(tracklets.column(name).to_pylist() for name in columns), *seen, strict=True)
    for tracklet_id, start, end, source, first, last in values:
        quality, _, offset, length = best.get(tracklet_id, (None, 0, None, None))
        rows.append(
            {
                "tracklet_id": tracklet_id,
                "start_pts_s": start,
                "end_pts_s": end,
                "first_seen": first,
                "last_seen": last,
                "time_source": source,
                "crops": count.get(tracklet_id, 0),
                "best_crop_offset": offset,
                "best_crop_length": length,
                "quality": quality,
            }
        )
    row = {
        "shard": shard_name(shard),
        "camera_id": shard.camera_id,
        "recording_sha256": shard.video_sha256,
        "tracklets": tracklets.num_rows,
        "crops": crops.num_rows,
        "summary_sha256": sha256_file(shard.path / SUMMARY),
    }
    return row, rows


def microseconds(table: Any, name: str) -> list[int | None]:
    """A column of times of a shard's table, UTC microseconds, None where unknown."""
    import pyarrow as pa

    values: list[int | None] = table.column(name).cast(pa.int64()).to_pylist()
    return values
