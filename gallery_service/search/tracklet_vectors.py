"""The vector of every tracklet that can be found, in one array: a search holds each vector once.

When a gallery changes, the next array is filled from the one before, and only segments that are new are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gallery_service.storage.own_memory import own_memory
from gallery_service.storage.repository import SearchableTracklet
from gallery_service.storage.segments import Segment


@dataclass(frozen=True)
class TrackletVectors:
    """The vectors of one model, and what has to be known to fill the next array from this one.

    Attributes:
        model_version: of the model.
        vectors: float16 (N, D).
        tracklet_ids, shards: whose vector a row is. An id says who is meant only together with its shard: a recording
            that is ingested anew gives its ids again.
        segments: names of the segments that the vectors come from. A name says a segment's content, so what was read of
            it is never stale.
        segment: int32 (N,), index into `segments`.
        unused: by segment, the shard and tracklet id of what it has and `vectors` has not from it: it is gone, its row
            in the database is yet to come, or another segment has it, too.
    """

    model_version: str
    vectors: NDArray[np.float16]
    tracklet_ids: list[str]
    shards: list[str]
    segments: list[str]
    segment: NDArray[np.int32]
    unused: Mapping[str, Set[tuple[str, str]]]


def gather_vectors(
    read: Callable[[str], Segment],
    model_version: str,
    dim: int,
    segments: Sequence[str],
    tracklets: Sequence[SearchableTracklet],
    before: TrackletVectors | None = None,
) -> tuple[list[SearchableTracklet], TrackletVectors]:
    """The tracklets that have a vector, in their order, and their vectors, row for row.

    Args:
        read: reads a segment by its name, at least its means.
        model_version: of the model.
        dim: D, of the model.
        segments: names of the segments that hold its vectors, and perhaps those of tracklets that are gone.
        tracklets: which are wanted.
        before: what is in memory already; of another model it is of no use.

    Raises:
        SegmentError: a segment is missing or damaged.
    """
    wanted = {(one.shard, one.tracklet_id): place for place, one in enumerate(tracklets)}
    size = len(tracklets) * dim
    vectors = np.frombuffer(own_memory(2 * size), np.float16, size).reshape(len(tracklets), dim)
    segment = np.full(len(tracklets), -1, np.int32)
    unused: dict[str, set[tuple[str, str]]] = {}
    number = {name: place for place, name in enumerate(segments)}
    known: set[str] = set()
    if before is not None and before.model_version == model_version:
        source = np.array([number.get(name, -1) for name in before.segments], np.int32)[before.segment]
        rows = list(zip(before.shards, before.tracklet_ids, strict=True))
        places = np.array([wanted.get(row, -1) for row in rows], np.int64)
        taken = np.flatnonzero((places >= 0) & (source >= 0))
        _copy(before.vectors, taken, vectors, places[taken])
        segment[places[taken]] = source[taken]
        # What was not taken then is not in memory: where it is wanted now, its segment is read once more.
        for name in number.keys() & set(before.segments):
            left = before.unused.get(name, set())
            if not any(row in wanted and segment[wanted[row]] < 0 for row in left):
                known.add(name)
                unused[name] = set(left)
        for row in np.flatnonzero((places < 0) & (source >= 0)).tolist():
            if segments[source[row]] in known:
                unused[segments[source[row]]].add(rows[row])
    for name in number:
        if name in known:
            continue
        content = read(name)
        rows = list(content.rows())
        places = np.array([wanted.get(row, -1) for row in rows], np.int64)
        takes = places >= 0
        takes[takes] = (segment[places[takes]] < 0) | (segment[places[takes]] == number[name])
        taken = np.flatnonzero(takes)
        _copy(content.means, taken, vectors, places[taken])
        segment[places[taken]] = number[name]
        unused[name] = {rows[row] for row in np.flatnonzero(~takes).tolist()}
    has = segment >= 0
    found = list(tracklets)
    if not has.all():
        found = [tracklet for tracklet, is_found in zip(tracklets, has.tolist(), strict=True) if is_found]
        taken = np.flatnonzero(has)
        _copy(vectors, taken, vectors, np.arange(len(taken)))
        vectors, segment = vectors[: len(taken)], segment[taken]
    same: dict[str, str] = {}  # a shard's name once, not for each of its tracklets
    return found, TrackletVectors(
        model_version=model_version,
        vectors=vectors,
        tracklet_ids=[tracklet.tracklet_id for tracklet in found],
        shards=[same.setdefault(tracklet.shard, tracklet.shard) for tracklet in found],
        segments=list(segments),
        segment=segment,
        unused=unused,
    )


def _copy(
    source: NDArray[np.float16], rows: NDArray[np.int64], target: NDArray[np.float16], places: NDArray[np.int64]
) -> None:
    """Copy rows, one by one: numpy would put all of them elsewhere in between, which is where they would stay."""
    for row, place in zip(rows.tolist(), places.tolist(), strict=True):
        target[place] = source[row]
