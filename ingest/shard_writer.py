"""Filling the folder that becomes a shard."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ingest.recording_time import RecordingStart
from ingest.shards import CROPS, MANIFEST, MANIFEST_SCHEMA, SCHEMA, SUMMARY, TRACKLETS, TRACKLETS_SCHEMA, Shard
from ingest.tracklets import Tracklet
from models.atomic import make_folder, sha256_file, write_json

_ROWS_AT_ONCE = 256


class ShardWriter:
    """Writes one shard's files into a folder of its own, which the caller then publishes.

    The files depend on what is added and on nothing else: no clock, no user, no folder name goes into them.

    Args:
        folder: is created; must not exist.
        camera_id: first part of the tracklet ids.
        video_id: second part.
        start: when the recording began.
    """

    def __init__(self, folder: Path, camera_id: str, video_id: str, start: RecordingStart) -> None:
        make_folder(folder.parent)
        folder.mkdir()
        self._folder = folder
        self._camera_id = camera_id
        self._video_id = video_id
        self._start = start
        self._crops = _Table(folder / MANIFEST, MANIFEST_SCHEMA)
        self._tracklets = _Table(folder / TRACKLETS, TRACKLETS_SCHEMA)
        self._tar = tarfile.open(folder / CROPS, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 closed in finish

    @property
    def crops(self) -> int:
        """Crops written so far."""
        return len(self._crops)

    @property
    def tracklets(self) -> int:
        """Tracklets written so far."""
        return len(self._tracklets)

    def add(self, tracklet: Tracklet) -> str:
        """Write a tracklet and its crops. Returns its id, camera/video/number."""
        tracklet_id = f"{self._camera_id}/{self._video_id}/{tracklet.number:06d}"
        self._tracklets.append(
            {
                "tracklet_id": tracklet_id,
                "camera_id": self._camera_id,
                "video_id": self._video_id,
                "start_pts_s": tracklet.first.pts_s,
                "end_pts_s": tracklet.last.pts_s,
                "first_seen": self._moment(tracklet.first.pts_s),
                "last_seen": self._moment(tracklet.last.pts_s),
                "time_source": self._start.source,
                "detections": tracklet.detections,
                "entry_box": tracklet.first.box.tolist(),
                "exit_box": tracklet.last.box.tolist(),
                "path": [{"t": point.pts_s, **_corners(point.box)} for point in tracklet.path],
            }
        )
        for number, crop in enumerate(tracklet.crops):
            offset = _append(self._tar, f"{tracklet.number:06d}/{number:02d}.jpg", crop.jpeg)
            self._crops.append(
                {
                    "crop_id": f"{tracklet_id}/{number:02d}",
                    "tracklet_id": tracklet_id,
                    "frame_index": crop.sighting.frame_index,
                    "pts_s": crop.sighting.pts_s,
                    "captured_at": self._moment(crop.sighting.pts_s),
                    **_corners(crop.sighting.box),
                    "detector_score": crop.sighting.score,
                    "quality": crop.quality,
                    "offset": offset,
                    "length": len(crop.jpeg),
                }
            )
        return tracklet_id

    def finish(self, summary: dict[str, Any]) -> None:
        """End the tables and write the summary. The folder is complete then, though not yet flushed to disk."""
        self._tar.close()
        self._crops.close()
        self._tracklets.close()
        _write_summary(self._folder, summary)

    def _moment(self, pts_s: float) -> int | None:
        if self._start.utc is None:
            return None
        # Whole microseconds since 1970 without a float in between, which would round them.
        seconds, micro = int(self._start.utc.timestamp() // 1), self._start.utc.microsecond
        return seconds * 1_000_000 + micro + round(pts_s * 1_000_000)


def copy_without(
    shard: Shard, gone: Collection[str], gone_crops: Collection[str], folder: Path, summary: dict[str, Any]
) -> None:
    """Write a shard's files anew, without some tracklets and crops.

    Args:
        shard: to copy.
        gone: tracklet ids to leave out, with their crops.
        gone_crops: crop ids to leave out.
        folder: is created; must not exist.
        summary: of the copy; its counts of tracklets and crops, and what ground truth says of tracklets, are put right.
    """
    make_folder(folder.parent)
    folder.mkdir()
    tracklets = [row for row in shard.tracklets().to_pylist() if row["tracklet_id"] not in gone]
    crops = [
        row for row in shard.crops().to_pylist() if row["tracklet_id"] not in gone and row["crop_id"] not in gone_crops
    ]
    with tarfile.open(folder / CROPS, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in crops:
            _, _, number, picture = row["crop_id"].split("/")
            row["offset"] = _append(tar, f"{number}/{picture}.jpg", shard.read_jpeg(row["offset"], row["length"]))
    counts = {**summary["counts"], "tracklets": len(tracklets), "crops": len(crops)}
    truth = summary.get("ground_truth")
    if truth is not None:
        truth = {**truth, "tracklets": {name: who for name, who in truth["tracklets"].items() if name not in gone}}
    for rows, name, schema in ((crops, MANIFEST, MANIFEST_SCHEMA), (tracklets, TRACKLETS, TRACKLETS_SCHEMA)):
        table = _Table(folder / name, schema)
        for row in rows:
            table.append(row)
        table.close()
    _write_summary(folder, {**summary, "counts": counts, "ground_truth": truth})


class _Table:
    """A Parquet file that is written as its rows come, so that no more than a few of them are in memory."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = pq.ParquetWriter(path, schema)
        self._rows: list[dict[str, Any]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        self._count += 1
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        self._file.write_batch(pa.RecordBatch.from_pylist(self._rows, self._schema))
        self._rows = []


def _write_summary(folder: Path, summary: dict[str, Any]) -> None:
    files = {name: sha256_file(folder / name) for name in (CROPS, MANIFEST, TRACKLETS)}
    write_json(folder / SUMMARY, {"schema": SCHEMA, **summary, "files": files})


def _append(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a file; where its data begin."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    entry.mode = 0o644
    header = tar.offset
    tar.addfile(entry, io.BytesIO(data))
    # A short name and no extensions make the header exactly one block.
    return header + tarfile.BLOCKSIZE


def _corners(box: NDArray[np.float32]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(("x1", "y1", "x2", "y2"), box, strict=True)}
