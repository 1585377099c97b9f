"""Vector segments: what one model made of one camera's tracklets of one day, in immutable files.

A segment is gallery/<name>.safetensors, where its name is <model version>/<camera>/<day>/<digest>. The day is the UTC
day on which its tracklets were first seen, or "untimed". Its tensors are

    means           float16 (T, D)    per tracklet, the normalised mean of its crops' embeddings
    crops           float16 (M, D)    per crop, its normalised embedding
    crop_tracklet   int32   (M,)      row of `means` that the crop belongs to, ascending; a tracklet's crops are in the
                                      order of its shard's manifest
    crop_sha256     uint8   (M, 32)   of the crop's JPEG

and its metadata has one entry, `segment`: JSON with schema, model version, camera, day, the shards and how many
tracklets each has, the tracklets' ids in row order, and every tensor's SHA-256. The digest in the name is that of the
file's header, so a name says every byte of its file: two equal names are one content, wherever it comes from. A segment
is written to a temporary file, fsynced and renamed, so a process killed at any moment leaves a whole one or none. The
format's header order depends on the writer when there are several metadata entries; with one, the same vectors always
give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gallery_service.errors import GalleryError, SegmentError
from gallery_service.storage.own_memory import own_memory
from models.atomic import make_folder, write_bytes

SUFFIX = ".safetensors"
UNTIMED = "untimed"
"""The day of tracklets whose recording does not say when it was made."""

SCHEMA = 2
_DTYPES = {"means": "<f2", "crops": "<f2", "crop_tracklet": "<i4", "crop_sha256": "|u1"}
_FORMAT_NAMES = {"<f2": "F16", "<i4": "I32", "|u1": "U8"}
_DIGEST = 32  # hexadecimal digits
_MAX_HEADER = 1 << 30
_EPOCH = date(1970, 1, 1)
_DAY = 86_400_000_000


@dataclass(frozen=True)
class Segment:
    """Vectors of one camera's day by one model; see the module for shapes.

    Attributes:
        shards: the shards its tracklets come from, ascending, each once.
        tracklet_shard: int32 (T,), index into `shards`, ascending.
    """

    model_version: str
    camera_id: str
    day: str
    shards: list[str]
    tracklet_shard: NDArray[np.int32]
    tracklet_ids: list[str]
    crop_tracklet: NDArray[np.int32]
    means: NDArray[np.float16]
    crops: NDArray[np.float16]
    crop_sha256: NDArray[np.uint8]

    def rows(self) -> Iterator[tuple[str, str]]:
        """Shard and tracklet id of each row of `means`: together they say for ever which tracklet it is, while an id
        alone may be given anew when a recording is ingested anew."""
        for shard, tracklet_id in zip(self.tracklet_shard.tolist(), self.tracklet_ids, strict=True):
            yield self.shards[shard], tracklet_id


def segment_path(gallery: Path, name: str) -> Path:
    """Where a segment lies below the gallery's folder."""
    return gallery / f"{name}{SUFFIX}"


def day_of(first_seen: int | None) -> str:
    """The UTC day, as 2026-03-01, of a moment in UTC microseconds; `UNTIMED` for None."""
    if first_seen is None:
        return UNTIMED
    return (_EPOCH + timedelta(days=first_seen // _DAY)).isoformat()


def tracklet_means(
    embeddings: NDArray[np.float32], crop_tracklet: NDArray[np.int32], tracklets: int
) -> NDArray[np.float32]:
    """Mean of each tracklet's embeddings, scaled to length 1.

    Args:
        embeddings: float32 (M, D), L2-normalised.
        crop_tracklet: int32 (M,), which tracklet a crop belongs to.
        tracklets: T; each needs at least one crop.

    Returns:
        float32 (T, D).
    """
    sums = np.zeros((tracklets, embeddings.shape[1]), np.float64)
    np.add.at(sums, crop_tracklet, embeddings)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    # Crops that cancel each other out exactly have no direction; such a tracklet is like nobody.
    return (sums / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def make_segment(
    model_version: str,
    camera_id: str,
    day: str,
    rows: Sequence[tuple[str, str]],
    crop_tracklet: NDArray[np.int32],
    crops: NDArray[np.float16],
    crop_sha256: NDArray[np.uint8],
) -> Segment:
    """Put vectors in a segment's order, so that the same vectors make the same segment however they came together.

    Args:
        model_version, camera_id, day: see `Segment`.
        rows: shard and id of each tracklet, T different ones in any order; each has a crop.
        crop_tracklet: int32 (M,), index into `rows`; the crops of one tracklet are in the order of its manifest.
        crops: float16 (M, D).
        crop_sha256: uint8 (M, 32).
    """
    order = sorted(range(len(rows)), key=rows.__getitem__)
    place = np.empty(len(rows), np.int32)
    place[order] = np.arange(len(rows), dtype=np.int32)
    crop_tracklet = place[crop_tracklet]
    crop_order = np.argsort(crop_tracklet, kind="stable")
    shards = sorted({shard for shard, _ in rows})
    number = {shard: index for index, shard in enumerate(shards)}
    crops, crop_tracklet = crops[crop_order], crop_tracklet[crop_order]
    # Of the vectors as they are stored: what is read later gives the same means.
    means = tracklet_means(crops.astype(np.float32), crop_tracklet, len(rows))
    return Segment(
        model_version=model_version,
        camera_id=camera_id,
        day=day,
        shards=shards,
        tracklet_shard=np.array([number[rows[row][0]] for row in order], np.int32),
        tracklet_ids=[rows[row][1] for row in order],
        crop_tracklet=crop_tracklet,
        means=means.astype(np.float16),
        crops=crops,
        crop_sha256=crop_sha256[crop_order],
    )


def write_segment(gallery: Path, segment: Segment) -> str:
    """Write a segment, whole or not at all.

    Args:
        gallery: the workspace's gallery folder.

    Returns:
        Its name.
    """
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(getattr(segment, name), dtype) for name, dtype in _DTYPES.items()
    }
    counts = np.bincount(segment.tracklet_shard, minlength=len(segment.shards))
    description = {
        "schema": SCHEMA,
        "model_version": segment.model_version,
        "camera_id": segment.camera_id,
        "day": segment.day,
        "shards": [[shard, int(count)] for shard, count in zip(segment.shards, counts, strict=True)],
        "tracklet_ids": segment.tracklet_ids,
        "sha256": {name: hashlib.sha256(tensor.data).hexdigest() for name, tensor in tensors.items()},
    }
    content = save(tensors, metadata={"segment": json.dumps(description, sort_keys=True)})
    header = content[: 8 + int.from_bytes(content[:8], "little")]
    name = f"{segment.model_version}/{segment.camera_id}/{segment.day}/{_digest(header)}"
    path = segment_path(gallery, name)
    make_folder(path.parent)
    write_bytes(path, content)
    return name


def read_segment(gallery: Path, name: str, tensors: Collection[str] = tuple(_DTYPES)) -> Segment:
    """Read a segment and check that what is read is what was written.

    Args:
        gallery: the workspace's gallery folder.
        name: of the segment.
        tensors: which to read and check; the others are left empty. For a search the means are enough, and they are a
            small part of the file.

    Raises:
        SegmentError: it is missing or damaged, or the name is another's.
        GalleryError: a newer version of this program wrote it.
        OSError: it is there and cannot be read.
    """
    path = segment_path(gallery, name)
    try:
        with path.open("rb", buffering=0) as file:  # a buffer would keep some of it
            return _read(file, name, tensors)
    except FileNotFoundError:
        raise SegmentError(f"{path}: missing; run the index command again", name) from None
    except _Damaged as error:
        raise SegmentError(f"{path}: damaged ({error}); run the index command again", name) from None


class _Damaged(Exception):  # noqa: N818 caught above
    pass


def _read(file: FileIO, name: str, wanted: Collection[str]) -> Segment:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if length > min(size, _MAX_HEADER):
        raise _Damaged("its header is cut off")
    file.seek(0)
    header = file.read(8 + length)
    if _digest(header) != name.rsplit("/", 1)[-1]:
        raise _Damaged("its header does not match its name")
    try:
        layout = json.loads(header[8:])
        description = json.loads(layout.pop("__metadata__")["segment"])
        if description["schema"] > SCHEMA:
            # Not damaged: who took it for that would forget it, and embed everything again.
            raise GalleryError(f"vectors {name}: written by a newer version of this program; update this one")
        if description["schema"] != SCHEMA:
            raise _Damaged(f"schema {description['schema']}, this program reads {SCHEMA}")
        if size != len(header) + max(entry["data_offsets"][1] for entry in layout.values()):
            raise _Damaged("its length does not match its header")
        arrays = {
            key: _tensor(file, len(header), layout[key], key, description["sha256"][key], key in wanted)
            for key in _DTYPES
        }
        place = (description["model_version"], description["camera_id"], description["day"])
        shards, counts = [shard for shard, _ in description["shards"]], [count for _, count in description["shards"]]
        tracklet_ids = description["tracklet_ids"]
    except GalleryError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise _Damaged(f"its header is no segment's: {error!r}") from None
    if "/".join(place) != name.rsplit("/", 1)[0]:
        raise _Damaged(f"it belongs to {'/'.join(place)}")
    if not all(np.isfinite(arrays[key]).all() for key in ("means", "crops")):
        raise _Damaged("it holds a vector that is no finite number")
    model_version, camera_id, day = place
    return Segment(
        model_version=model_version,
        camera_id=camera_id,
        day=day,
        shards=shards,
        tracklet_shard=np.repeat(np.arange(len(shards), dtype=np.int32), counts),
        tracklet_ids=tracklet_ids,
        **arrays,
    )


def _tensor(file: FileIO, start: int, entry: dict[str, Any], key: str, sha256: str, wanted: bool) -> NDArray[Any]:
    dtype, shape = _DTYPES[key], tuple(entry["shape"])
    if entry["dtype"] != _FORMAT_NAMES[dtype]:
        raise _Damaged(f"{key} is {entry['dtype']}")
    if not wanted:
        return np.empty((0, *shape[1:]), dtype)
    begin, end = entry["data_offsets"]
    file.seek(start + begin)
    memory = own_memory(end - begin)
    content = memoryview(memory)[: end - begin]
    done = 0
    while done < len(content):
        count = file.readinto(content[done:])
        if not count:
            raise _Damaged("it is cut off")
        done += count
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _Damaged(f"the checksum of its {key} does not match")
    return np.frombuffer(content, dtype).reshape(shape)


def _digest(header: bytes) -> str:
    return hashlib.sha256(header).hexdigest()[:_DIGEST]
