"""A gallery in memory: the model, the index, and the columns that filters look at, all of one moment.

It is a cache of the segments and rows on disk and never changes; when those change, another one is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gallery_service.errors import SegmentError
from gallery_service.filters import NO_TIME, FilterColumns
from gallery_service.index import TrackletIndex
from gallery_service.repository import GalleryRepository, SearchableTracklet
from gallery_service.segments import read_segment, segment_path

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.embedder import Embedder


@dataclass(frozen=True)
class LoadedGallery:
    """See the module.

    Attributes:
        generation: of the rows it was loaded from.
        current_model: what models/current named then, None for nothing; it may not have indexed the site yet.
        columns, index: row i of the one is row i of the other.
        left_out: tracklets that this model has no vector of yet.
    """

    generation: int
    current_model: str | None
    bundle: Bundle
    embedder: Embedder
    columns: FilterColumns
    index: TrackletIndex
    left_out: int


def load_gallery(
    gallery: Path,
    repository: GalleryRepository,
    bundle: Bundle,
    embedder: Embedder,
    camera_ids: Sequence[str],
    current_model: str | None,
) -> LoadedGallery:
    """Read the rows and the segments of one model.

    Args:
        gallery: the workspace's gallery folder.
        bundle, embedder: the model.
        camera_ids: the site's; tracklets of a camera that site.yaml no longer has stay findable.
        current_model: see `LoadedGallery`.

    Raises:
        SegmentError: a segment is damaged or was removed meanwhile.
    """
    generation, rows = repository.searchable(bundle.version)
    vectors = np.empty((len(rows), bundle.embedding_dim), np.float32)
    by_shard: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_shard.setdefault(row.shard, []).append(number)
    for shard, numbers in by_shard.items():
        wanted = [rows[number].tracklet_id for number in numbers]
        vectors[numbers] = _vectors(gallery, bundle, shard, wanted)
    all_cameras = list(dict.fromkeys([*camera_ids, *sorted({row.camera_id for row in rows})]))
    return LoadedGallery(
        generation=generation,
        current_model=current_model,
        bundle=bundle,
        embedder=embedder,
        columns=_columns(rows, all_cameras),
        index=TrackletIndex(vectors),
        left_out=max(0, repository.with_crops() - len(rows)),
    )


def _vectors(gallery: Path, bundle: Bundle, shard: str, wanted: list[str]) -> NDArray[np.float32]:
    path = segment_path(gallery, bundle.version, shard)
    segment = read_segment(path, model_version=bundle.version, shard=shard)
    number = {tracklet_id: row for row, tracklet_id in enumerate(segment.tracklet_ids)}
    if segment.means.shape[1] != bundle.embedding_dim or not number.keys() >= set(wanted):
        raise SegmentError(f"{path}: does not fit the gallery's rows; run the index command again")
    return segment.means[[number[tracklet_id] for tracklet_id in wanted]]


def _columns(rows: Sequence[SearchableTracklet], camera_ids: list[str]) -> FilterColumns:
    camera_number = {camera_id: number for number, camera_id in enumerate(camera_ids)}
    return FilterColumns(
        tracklet_ids=[row.tracklet_id for row in rows],
        camera_ids=camera_ids,
        camera=np.array([camera_number[row.camera_id] for row in rows], np.int32),
        first_seen=np.array([NO_TIME if row.first_seen is None else row.first_seen for row in rows], np.int64),
        last_seen=np.array([NO_TIME if row.last_seen is None else row.last_seen for row in rows], np.int64),
        quality=np.array([np.nan if row.quality is None else row.quality for row in rows], np.float32),
    )
