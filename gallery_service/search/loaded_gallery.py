"""A gallery in memory: the model, the index, and the columns that filters look at, all of one moment.

It is a cache of the segments and rows on disk and never changes; when those change, another one is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gallery_service.search.filters import NO_TIME, FilterColumns
from gallery_service.search.index import TrackletIndex
from gallery_service.search.tracklet_vectors import TrackletVectors, gather_vectors
from gallery_service.storage.repository import GalleryRepository, SearchableTracklet, StoredTracklet
from gallery_service.storage.segments import read_segment

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.embedder import Embedder


@dataclass(frozen=True)
class LoadedGallery:
    """See the module.

    Attributes:
        generation: of the rows before its model was chosen: what has changed since is another generation, even where it
            is in here already.
        current_model: what models/current named then, None for nothing; it may not have indexed the site yet.
        columns, index, held: row i of the one is row i of the others. The index searches the vectors where `held` has
            them.
        left_out: tracklets that this model has no vector of yet.
    """

    generation: int
    current_model: str | None
    bundle: Bundle
    embedder: Embedder
    columns: FilterColumns
    held: TrackletVectors
    index: TrackletIndex
    left_out: int

    @property
    def shards(self) -> Sequence[str]:
        """The shard of each row."""
        return self.held.shards

    def row(self, tracklet: StoredTracklet) -> int | None:
        """The row of a tracklet; None when this gallery has no vector of it, or has one of another by its id."""
        row = self.columns.row(tracklet.tracklet_id)
        return row if row is not None and self.shards[row] == tracklet.shard else None


def load_gallery(
    gallery: Path,
    repository: GalleryRepository,
    bundle: Bundle,
    embedder: Embedder,
    camera_ids: Sequence[str],
    generation: int,
    current_model: str | None,
    before: LoadedGallery | None = None,
) -> LoadedGallery:
    """Read the rows and the segments of one model.

    Args:
        gallery: the workspace's gallery folder.
        bundle, embedder: the model.
        camera_ids: the site's; tracklets of a camera that site.yaml no longer has stay findable.
        generation, current_model: see `LoadedGallery`.
        before: the one loaded before, which spares reading its segments again.

    Raises:
        SegmentError: a segment is damaged or was removed meanwhile.
    """
    searchable = repository.searchable(bundle.version)
    rows, held = gather_vectors(
        lambda name: read_segment(gallery, name, tensors=("means",)),
        bundle.version,
        bundle.embedding_dim,
        searchable.segments,
        searchable.tracklets,
        None if before is None else before.held,
    )
    all_cameras = list(dict.fromkeys([*camera_ids, *sorted({row.camera_id for row in rows})]))
    return LoadedGallery(
        generation=generation,
        current_model=current_model,
        bundle=bundle,
        embedder=embedder,
        columns=_columns(rows, held.tracklet_ids, all_cameras),
        held=held,
        index=TrackletIndex(held.vectors),
        left_out=len(searchable.tracklets) - len(rows),
    )


def _columns(rows: Sequence[SearchableTracklet], tracklet_ids: Sequence[str], camera_ids: list[str]) -> FilterColumns:
    camera_number = {camera_id: number for number, camera_id in enumerate(camera_ids)}
    return FilterColumns(
        tracklet_ids=tracklet_ids,
        camera_ids=camera_ids,
        camera=np.array([camera_number[row.camera_id] for row in rows], np.int32),
        first_seen=np.array([NO_TIME if row.first_seen is None else row.first_seen for row in rows], np.int64),
        last_seen=np.array([NO_TIME if row.last_seen is None else row.last_seen for row in rows], np.int64),
        quality=np.array([np.nan if row.quality is None else row.quality for row in rows], np.float32),
    )
