"""Compaction: the small segments of a camera's day become one, and vectors of tracklets that are gone leave the disk.

A segment is never changed. A new one is written, the rows change over to it in one transaction, and only then are the
old files removed; a process killed at any moment leaves the old segments or the new, and at most files that no row
names, which the next run removes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from gallery_service.errors import SegmentError
from gallery_service.storage.repository import GalleryRepository, StoredSegment
from gallery_service.storage.segments import Segment, make_segment, read_segment, segment_path, write_segment

SMALL_BYTES = 64 << 20
"""A segment of at least this size is not merged with others."""

MANY = 8
"""How many small segments a camera's day may have before the index command merges them: each file costs opening and
checking it, each merge costs writing the day anew."""


def store_segment(gallery: Path, segment: Segment) -> StoredSegment:
    """Write a segment; what the database has to know of it."""
    name = write_segment(gallery, segment)
    return StoredSegment(
        name=name,
        model_version=segment.model_version,
        camera_id=segment.camera_id,
        day=segment.day,
        tracklets=len(segment.tracklet_ids),
        size_bytes=segment_path(gallery, name).stat().st_size,
    )


@dataclass
class Compaction:
    """What was done.

    Attributes:
        replaced: how many segments were written anew or merged.
        dropped: vectors of how many tracklets left the disk.
        damaged: what is wrong with segments that could not be read and were forgotten; the index command makes them
            again.
        lost: model version and shard of what those held.
    """

    replaced: int = 0
    dropped: int = 0
    damaged: list[str] = field(default_factory=list)
    lost: set[tuple[str, str]] = field(default_factory=set)


def compact(gallery: Path, repository: GalleryRepository, many: int = 2) -> Compaction:
    """Merge small segments, and write those anew that hold what is gone. The caller holds the gallery's lock.

    Args:
        gallery: the workspace's gallery folder.
        repository: its rows.
        many: merge a camera's day when it has so many small segments.

    Raises:
        OSError: the disk is full, or a file cannot be read.
    """
    done = Compaction()
    for _, of_day in groupby(repository.segments(), key=lambda segment: segment.name.rsplit("/", 1)[0]):
        segments = list(of_day)
        small = [segment for segment in segments if segment.size_bytes < SMALL_BYTES]
        if len(small) >= many or any(segment.stale for segment in small):
            _replace(gallery, repository, small, done)
        for segment in segments:
            if segment.size_bytes >= SMALL_BYTES and segment.stale:
                _replace(gallery, repository, [segment], done)
    return done


def remove_unnamed(gallery: Path, repository: GalleryRepository) -> None:
    """Remove files that no row names: what killed writers left, and models that are gone. A file that has a segment's
    name and another suffix is a cache made from it, and stays as long. The caller holds the gallery's lock."""
    named = {gallery / segment.name for segment in repository.segments()}
    for version in sorted(path for path in gallery.iterdir() if path.is_dir()):
        for path in sorted(version.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.with_suffix("") not in named:
                path.unlink()
        if not any(version.iterdir()):
            version.rmdir()


def _remove(gallery: Path, name: str) -> None:
    path = gallery / name
    for file in path.parent.glob(f"{path.name}.*"):
        file.unlink(missing_ok=True)


def _replace(gallery: Path, repository: GalleryRepository, old: list[StoredSegment], done: Compaction) -> None:
    parts = []
    for segment in old:
        try:
            parts.append(read_segment(gallery, segment.name))
        except SegmentError as error:
            done.lost |= repository.remove_segments([segment.name])
            done.damaged.append(str(error))
    if not parts:
        return
    generation, living = repository.living({shard for part in parts for shard in part.shards})
    merged = _living_part(parts, living)
    new = [] if merged is None else [store_segment(gallery, merged)]
    repository.replace_segments([segment.name for segment in old], new, generation)
    for segment in old:
        if segment.name not in {stored.name for stored in new}:
            _remove(gallery, segment.name)
    done.replaced += len(parts)
    done.dropped += sum(len(part.tracklet_ids) for part in parts) - sum(stored.tracklets for stored in new)


def _living_part(parts: list[Segment], living: set[tuple[str, str]]) -> Segment | None:
    """All tracklets of some segments of one camera's day that are still there, each once; None when none is."""
    rows: dict[tuple[str, str], int] = {}
    owners, crops, hashes = [], [], []
    for part in parts:
        place = np.full(len(part.tracklet_ids), -1, np.int32)
        for number, row in enumerate(part.rows()):
            if row in living and row not in rows:
                place[number] = rows[row] = len(rows)
        of_crop = place[part.crop_tracklet]
        kept = of_crop >= 0
        owners.append(of_crop[kept])
        crops.append(part.crops[kept])
        hashes.append(part.crop_sha256[kept])
    if not rows:
        return None
    first = parts[0]
    return make_segment(
        first.model_version,
        first.camera_id,
        first.day,
        list(rows),
        np.concatenate(owners),
        np.concatenate(crops),
        np.concatenate(hashes),
    )
