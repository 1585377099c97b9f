"""The vectors of segments in memory, so that only new segments are read when a gallery changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gallery_service.repository import SearchableTracklet
from gallery_service.segments import Segment, read_segment


class SegmentCache:
    """Tracklet means of the segments asked for last. A segment's name says its content, so it is never stale.

    Args:
        gallery: the workspace's gallery folder.
    """

    def __init__(self, gallery: Path) -> None:
        self._gallery = gallery
        self._held: dict[str, Segment] = {}

    def read(self, names: Sequence[str]) -> list[Segment]:
        """These segments, only with their means; of others nothing is held any longer.

        Raises:
            SegmentError: one is missing or damaged.
        """
        self._held = {name: self._held.get(name) or self._read(name) for name in names}
        return list(self._held.values())

    def _read(self, name: str) -> Segment:
        return read_segment(self._gallery, name, tensors=("means",))


def tracklet_vectors(
    segments: Sequence[Segment], tracklets: Sequence[SearchableTracklet], dim: int
) -> tuple[list[SearchableTracklet], NDArray[np.float16]]:
    """The tracklets that have a vector, in their order, and their vectors, float16 (N, dim), row for row.

    A segment may hold vectors of tracklets that are gone: they are left out.
    """
    rows = (row for segment in segments for row in segment.rows())
    place = {row: number for number, row in enumerate(rows)}
    found = [tracklet for tracklet in tracklets if (tracklet.shard, tracklet.tracklet_id) in place]
    numbers = np.array([place[tracklet.shard, tracklet.tracklet_id] for tracklet in found], np.int64)
    means = np.concatenate([np.empty((0, dim), np.float16), *(segment.means for segment in segments)])
    return found, means[numbers]
