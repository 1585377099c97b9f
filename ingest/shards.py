"""Shards: what ingest leaves behind for everybody above it.

A shard holds the person crops of one recording of one camera, under one set of settings. It is a folder

    <workspace>/shards/<camera>/<shard-id>/
        crops.tar           plain tar of JPEGs, read at random by offset and length
        manifest.parquet    a row per crop
        tracklets.parquet   a row per tracklet
        summary.json        counts, settings, what was rejected and why, ground truth where there is some, and the
                            SHA-256 of the other files

that is written under another name, flushed to disk and renamed: it is whole or not there, and never changes. The
shard id is made of the recording's content hash and the fingerprint of everything that could change its crops, so the
same recording and settings give the same shard, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ingest.site import SiteConfig
from ingest.workspace import Workspace
from models.images import decode_image

SCHEMA = 1
CROPS, MANIFEST, TRACKLETS, SUMMARY = "crops.tar", "manifest.parquet", "tracklets.parquet", "summary.json"
TEMPORARY_PREFIX = ".tmp-"

_TIME = pa.timestamp("us", tz="UTC")
_BOX = pa.list_(pa.float32(), 4)
MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("crop_id", pa.string(), nullable=False),
        pa.field("tracklet_id", pa.string(), nullable=False),
        pa.field("frame_index", pa.int64(), nullable=False),
        pa.field("pts_s", pa.float64(), nullable=False),
        pa.field("captured_at", _TIME),
        *(pa.field(name, pa.float32(), nullable=False) for name in ("x1", "y1", "x2", "y2")),
        pa.field("detector_score", pa.float32(), nullable=False),
        pa.field("quality", pa.float32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
    ],
    metadata={"schema": str(SCHEMA)},
)
TRACKLETS_SCHEMA = pa.schema(
    [
        pa.field("tracklet_id", pa.string(), nullable=False),
        pa.field("camera_id", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("start_pts_s", pa.float64(), nullable=False),
        pa.field("end_pts_s", pa.float64(), nullable=False),
        pa.field("first_seen", _TIME),
        pa.field("last_seen", _TIME),
        pa.field("time_source", pa.string(), nullable=False),
        pa.field("detections", pa.int64(), nullable=False),
        pa.field("entry_box", _BOX, nullable=False),
        pa.field("exit_box", _BOX, nullable=False),
        pa.field(
            "path",
            pa.list_(pa.struct([("t", pa.float64()), *((name, pa.float32()) for name in ("x1", "y1", "x2", "y2"))])),
            nullable=False,
        ),
    ],
    metadata={"schema": str(SCHEMA)},
)


class ShardError(ValueError):
    """A shard that cannot be read; the message names it."""


@dataclass(frozen=True)
class Shard:
    """A published shard.

    Attributes:
        path: its folder.
        camera_id: of the camera that saw it.
        summary: the content of summary.json.
    """

    path: Path
    camera_id: str
    summary: dict[str, Any] = field(repr=False)

    @property
    def shard_id(self) -> str:
        """Name of the folder: content hash and settings fingerprint."""
        return self.path.name

    @property
    def video_id(self) -> str:
        """First half of the tracklet ids after the camera: the beginning of the recording's sha256."""
        return str(self.summary["video_id"])

    @property
    def video_sha256(self) -> str:
        """Content hash of the recording."""
        return str(self.summary["video_sha256"])

    @property
    def generation(self) -> int:
        """Counts the shards this recording has had for this camera; the highest is the valid one."""
        return int(self.summary["generation"])

    @property
    def sound_clock(self) -> bool:
        """Whether all of the recording's own timestamps were used as they are, as far as the summary tells."""
        decode = self.summary.get("decode")
        return decode is not None and not (decode.get("pts_estimated") or decode.get("clock_restarts"))

    @property
    def replaces(self) -> list[str]:
        """Content hashes of shorter states of the same recording; their shards are superseded by this one."""
        return list(self.summary.get("replaces", []))

    def crops(self) -> pa.Table:
        """The manifest, a row per crop (`MANIFEST_SCHEMA`), in the order of crops.tar."""
        return self._table(MANIFEST, MANIFEST_SCHEMA)

    def tracklets(self) -> pa.Table:
        """A row per tracklet (`TRACKLETS_SCHEMA`), by id; the file has them in the order in which they ended."""
        return self._table(TRACKLETS, TRACKLETS_SCHEMA).sort_by("tracklet_id")

    def read_jpeg(self, offset: int, length: int) -> bytes:
        """The JPEG at an offset and length the manifest gives.

        Raises:
            ShardError: crops.tar is gone or too short.
        """
        try:
            with (self.path / CROPS).open("rb") as file:
                data = os.pread(file.fileno(), length, offset)
        except (OSError, ValueError) as error:
            raise ShardError(f"{self.path / CROPS}: cannot be read: {error}") from None
        if len(data) != length:
            raise ShardError(f"{self.path / CROPS}: too short for its manifest; delete the shard and ingest again")
        return data

    def _table(self, name: str, schema: pa.Schema) -> pa.Table:
        path = self.path / name
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise ShardError(f"{path}: cannot be read: {error}; delete the shard and ingest again") from None
        if not table.schema.equals(schema):
            raise ShardError(f"{path}: its columns are not those of schema {SCHEMA}; delete the shard and ingest again")
        return table


def open_shard(path: Path) -> Shard:
    """Open one shard's folder.

    Raises:
        ShardError: it is not a shard of this schema.
    """
    try:
        summary = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
        if summary["schema"] != SCHEMA:
            raise ShardError(f"{path}: schema {summary['schema']}, this program reads {SCHEMA}; ingest again")
        shard = Shard(path, str(summary["camera_id"]), summary)
        _ = shard.video_sha256, shard.video_id, shard.generation
    except ShardError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{path}: not a whole shard ({error}); delete it and ingest again") from None
    return shard


def list_shards(workspace: Workspace, camera_id: str | None = None) -> list[Shard]:
    """The valid shards of a workspace, sorted by camera and shard id.

    Of several shards for one camera and recording (settings changed, something erased) only the newest generation
    counts; the others are waiting to be removed. Those that site.yaml no longer describes do not count either
    (`left_out_shards`).

    Args:
        workspace: whose shards.
        camera_id: only this camera's.

    Raises:
        ShardError: a folder there is not a shard.
    """
    return [shard for shard in newest_shards(workspace, camera_id) if _left_out(workspace.site, shard) is None]


def superseded_shards(workspace: Workspace) -> list[Shard]:
    """Shards of which a newer generation is in place."""
    valid = {shard.path for shard in newest_shards(workspace)}
    return [shard for shard in _all_shards(workspace, None) if shard.path not in valid]


def remove_leftovers(workspace: Workspace) -> None:
    """Remove what a command that was stopped has left: unfinished folders, and superseded shards. Holds the lock."""
    if workspace.shards.is_dir():
        for leftover in workspace.shards.glob(f"*/{TEMPORARY_PREFIX}*"):
            shutil.rmtree(leftover)
    remove_superseded(workspace)


def remove_superseded(workspace: Workspace) -> None:
    """Remove shards of which a newer generation is in place. Holds the lock."""
    for shard in superseded_shards(workspace):
        # Renamed first: a folder that is half removed must not look like a shard.
        doomed = shard.path.with_name(f"{TEMPORARY_PREFIX}{shard.shard_id}")
        shard.path.rename(doomed)
        shutil.rmtree(doomed)


def shard_id(video_id: str, settings: dict[str, Any]) -> str:
    """Content and settings: the same id, the same crops. Settings as in summary.json."""
    text = json.dumps(settings, sort_keys=True)
    return f"{video_id}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def left_out_shards(workspace: Workspace) -> list[tuple[Shard, str]]:
    """Shards that stay where they are but are not used, because site.yaml says otherwise now; each with the reason."""
    reasons = [(shard, _left_out(workspace.site, shard)) for shard in newest_shards(workspace)]
    return [(shard, reason) for shard, reason in reasons if reason is not None]


def _left_out(site: SiteConfig, shard: Shard) -> str | None:
    camera = next((camera for camera in site.cameras if camera.id == shard.camera_id), None)
    if camera is None:
        return (
            f"camera '{shard.camera_id}' is not in site.yaml; left out, delete shards/{shard.camera_id} to be rid of it"
        )
    masked = shard.summary.get("settings", {}).get("mask")  # imported crops have none
    if masked is not None and masked != [[list(point) for point in polygon] for polygon in camera.mask]:
        return "its camera's mask has changed since it was ingested, and the recording is gone; left out"
    return None


def newest_shards(workspace: Workspace, camera_id: str | None = None) -> list[Shard]:
    """The newest generation of every shard, those included that site.yaml no longer describes, without those of a
    recording that has grown since."""
    newest: dict[tuple[str, str], Shard] = {}
    for shard in _all_shards(workspace, camera_id):
        key = (shard.camera_id, shard.video_sha256)
        if key not in newest or shard.generation > newest[key].generation:
            newest[key] = shard
    for shard in list(newest.values()):
        for content in shard.replaces:
            other = newest.get((shard.camera_id, content))
            # Each replaces the other where a recording was put back as it was before.
            if other and (shard.video_sha256 not in other.replaces or shard.generation > other.generation):
                del newest[other.camera_id, content]
    return sorted(newest.values(), key=lambda shard: (shard.camera_id, shard.shard_id))


def cameras_with_shards(workspace: Workspace) -> set[str]:
    """The cameras of which there are shards, those included that site.yaml no longer has."""
    folders = workspace.shards.iterdir() if workspace.shards.is_dir() else ()
    return {folder.name for folder in folders if folder.is_dir() and not folder.name.startswith(".")}


def _all_shards(workspace: Workspace, camera_id: str | None) -> list[Shard]:
    if not workspace.shards.is_dir():
        return []
    found = []
    for camera in sorted(workspace.shards.iterdir()):
        if not camera.is_dir() or (camera_id is not None and camera.name != camera_id):
            continue
        for folder in sorted(camera.iterdir()):
            if folder.is_dir() and not folder.name.startswith("."):
                shard = open_shard(folder)
                if shard.camera_id != camera.name:
                    raise ShardError(f"{folder}: belongs to camera '{shard.camera_id}'; it was moved, move it back")
                found.append(shard)
    return found


def shards_fingerprint(shards: Iterable[Shard]) -> str:
    """Stable sha256 (hex) over camera and shard ids: two equal ones mean the same crops."""
    names = sorted(f"{shard.camera_id}/{shard.shard_id}" for shard in shards)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


@dataclass
class CropSet:
    """All crops of some shards as arrays; the pixels stay on disk until asked for.

    There are N crops in T tracklets out of C cameras and V recordings. Crops are ordered by shard, then as in the
    shard; tracklets likewise. Can be sent to worker processes.

    Attributes:
        shards: where it came from, V of them.
        crop_id: N ids.
        tracklet: int64 (N,), index into `tracklet_ids`.
        camera: int64 (N,), index into `camera_ids`.
        captured_at: int64 (N,), microseconds UTC, -1 when unknown.
        pts_s: float64 (N,), seconds from the beginning of the crop's recording.
        detector_score, quality: float32 (N,), 0..1.
        boxes: float32 (N, 4), x1, y1, x2, y2 in pixels of the recording's frame.
        tracklet_ids: T ids.
        camera_ids: C ids, sorted.
        tracklet_camera: int64 (T,), index into `camera_ids`.
        tracklet_video: int64 (T,), index into `shards`.
        tracklet_span: int64 (T, 2), first and last seen, microseconds UTC, -1 when unknown.
        tracklet_pts: float64 (T, 2), first and last seen, seconds from the beginning of the recording.
    """

    shards: list[Shard]
    crop_id: list[str]
    tracklet: NDArray[np.int64]
    camera: NDArray[np.int64]
    captured_at: NDArray[np.int64]
    pts_s: NDArray[np.float64]
    detector_score: NDArray[np.float32]
    quality: NDArray[np.float32]
    boxes: NDArray[np.float32]
    tracklet_ids: list[str]
    camera_ids: list[str]
    tracklet_camera: NDArray[np.int64]
    tracklet_video: NDArray[np.int64]
    tracklet_span: NDArray[np.int64]
    tracklet_pts: NDArray[np.float64]
    _offset: NDArray[np.int64] = field(repr=False)
    _length: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.crop_id)

    def shard_of(self, i: int) -> Shard:
        """The shard that crop i lies in."""
        return self.shards[int(self.tracklet_video[self.tracklet[i]])]

    def jpeg(self, i: int) -> bytes:
        """Crop i as the JPEG that was stored."""
        return self.shard_of(i).read_jpeg(int(self._offset[i]), int(self._length[i]))

    def image(self, i: int) -> NDArray[np.uint8]:
        """Crop i, (height, width, 3) uint8 BGR."""
        return decode_image(self.jpeg(i), what=f"crop {self.crop_id[i]}")

    def fingerprint(self) -> str:
        """Stable sha256 (hex) over the shards: the same fingerprint means the same crops."""
        return shards_fingerprint(self.shards)

    def identities(self) -> NDArray[np.int64] | None:
        """Who each tracklet is, int64 (T,): the ground truth's person id, -1 for nobody (or a camera without ground
        truth); None when no shard has ground truth. For judging a model, never for training without labels."""
        if not any(shard.summary.get("ground_truth") for shard in self.shards):
            return None
        person: dict[str, int] = {}
        for shard in self.shards:
            truth = shard.summary.get("ground_truth")
            if truth:
                person.update((name, int(entry["person_id"])) for name, entry in truth["tracklets"].items())
        return np.asarray([person.get(name, -1) for name in self.tracklet_ids], dtype=np.int64)

    @cached_property
    def crops_of_tracklet(self) -> list[NDArray[np.int64]]:
        """T arrays: the crops of each tracklet, in order of time."""
        order = np.lexsort((self.pts_s, self.tracklet))
        cuts = np.searchsorted(self.tracklet[order], np.arange(1, len(self.tracklet_ids)))
        return list(np.split(order, cuts)) if self.tracklet_ids else []


def load_crops(shards: Sequence[Shard]) -> CropSet:
    """Read the tables of some shards into one `CropSet`. No shards give an empty one.

    Raises:
        ShardError: a shard cannot be read, or a crop names a tracklet its shard does not have.
    """
    camera_ids = sorted({shard.camera_id for shard in shards})
    tracklet_ids: list[str] = []
    crop_ids: list[str] = []
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
    for number, shard in enumerate(shards):
        crops, tracklets = shard.crops(), shard.tracklets()
        names = tracklets["tracklet_id"].to_pylist()
        index = {name: len(tracklet_ids) + i for i, name in enumerate(names)}
        camera = camera_ids.index(shard.camera_id)
        tracklet_ids += names
        crop_ids += crops["crop_id"].to_pylist()
        try:
            of_crop = [index[name] for name in crops["tracklet_id"].to_pylist()]
        except KeyError as error:
            raise ShardError(f"{shard.path}: a crop names the tracklet {error}, which is not there") from None
        columns["tracklet"].append(np.asarray(of_crop, np.int64))
        columns["camera"].append(np.full(len(of_crop), camera, np.int64))
        columns["captured_at"].append(_microseconds(crops["captured_at"]))
        for name in ("pts_s", "detector_score", "quality", "offset", "length"):
            columns[name].append(crops[name].to_numpy())
        columns["boxes"].append(np.stack([crops[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1))
        columns["tracklet_camera"].append(np.full(len(names), camera, np.int64))
        columns["tracklet_video"].append(np.full(len(names), number, np.int64))
        columns["tracklet_span"].append(
            np.stack([_microseconds(tracklets[name]) for name in ("first_seen", "last_seen")], axis=1)
        )
        columns["tracklet_pts"].append(
            np.stack([tracklets[name].to_numpy() for name in ("start_pts_s", "end_pts_s")], axis=1)
        )
    arrays = {name: _join(parts, *_COLUMNS[name]) for name, parts in columns.items()}
    return CropSet(
        shards=list(shards),
        crop_id=crop_ids,
        tracklet_ids=tracklet_ids,
        camera_ids=camera_ids,
        _offset=arrays.pop("offset"),
        _length=arrays.pop("length"),
        **arrays,
    )


_COLUMNS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "tracklet": (np.int64, ()),
    "camera": (np.int64, ()),
    "captured_at": (np.int64, ()),
    "pts_s": (np.float64, ()),
    "detector_score": (np.float32, ()),
    "quality": (np.float32, ()),
    "offset": (np.int64, ()),
    "length": (np.int64, ()),
    "boxes": (np.float32, (4,)),
    "tracklet_camera": (np.int64, ()),
    "tracklet_video": (np.int64, ()),
    "tracklet_span": (np.int64, (2,)),
    "tracklet_pts": (np.float64, (2,)),
}


def _join(parts: list[NDArray[Any]], dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    if not parts:
        return np.zeros((0, *shape), dtype)
    return np.concatenate(parts).astype(dtype, copy=False)


def _microseconds(column: pa.ChunkedArray) -> NDArray[np.int64]:
    import pyarrow.compute as pc

    filled = pc.fill_null(column.cast(pa.int64()), -1)
    return np.asarray(filled.to_numpy(), dtype=np.int64)
