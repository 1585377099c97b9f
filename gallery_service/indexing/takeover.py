"""What a model has to show before it answers searches in the place of another."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gallery_service.errors import DatabaseUnavailable
from gallery_service.search.index import SCORE_STEP
from gallery_service.search.loaded_gallery import LoadedGallery, load_gallery
from gallery_service.storage.repository import GalleryRepository
from gallery_service.storage.segments import read_segment

if TYPE_CHECKING:
    from ingest.shards import Shard
    from models.bundle import Bundle
    from models.embedder import Embedder

SELF_SEARCHES = 200
SPOT_CHECKS = 32
SAME_COSINE = 0.99
"""A crop embedded twice, perhaps in bfloat16 and in another batch, and rounded to float16 once."""
_ROUNDING = 2.0**-11
"""The most by which rounding to float16 changes a vector's length, as a share of it."""


def check_takeover(
    gallery: Path,
    repository: GalleryRepository,
    bundle: Bundle,
    embedder: Embedder,
    shards: Mapping[str, Shard],
) -> list[str]:
    """Check a model's vectors of a whole gallery.

    Every crop must have a vector, a tracklet that is searched for must find itself, and crops that are embedded again
    must come out as they are stored; the latter two for a sample.

    Args:
        gallery: the workspace's gallery folder.
        repository: its rows.
        bundle, embedder: the model.
        shards: the site's, by name.

    Returns:
        What is wrong, in words; nothing when the model may take over.
    """
    draw = random.Random(bundle.version)
    try:
        loaded = load_gallery(gallery, repository, bundle, embedder, [], repository.generation(), bundle.version)
        return [
            *crops_without_vector(gallery, repository, bundle.version),
            *_not_found_by_themselves(loaded, draw),
            *_embedded_differently(gallery, repository, embedder, shards, draw),
        ]
    except DatabaseUnavailable:
        raise
    except (ValueError, OSError) as error:  # a segment that is damaged, a crop that cannot be read
        return [str(error)]


def crops_without_vector(gallery: Path, repository: GalleryRepository, version: str) -> list[str]:
    """Tracklets of shards that a model has embedded, not all of whose crops have a vector; in words.

    Raises:
        SegmentError: a segment is damaged.
    """
    stored: dict[tuple[str, str], int] = {}
    for one in repository.segments(version):
        segment = read_segment(gallery, one.name, tensors=("crop_tracklet",))
        counts = np.bincount(segment.crop_tracklet, minlength=len(segment.tracklet_ids)).tolist()
        stored |= zip(segment.rows(), counts, strict=True)
    embedded = repository.embedded(version)
    return [
        f"{tracklet_id}: {stored.get((shard, tracklet_id), 0)} of its {crops} crops have a vector"
        for shard, tracklet_id, crops in repository.crop_counts()
        if shard in embedded and stored.get((shard, tracklet_id), 0) != crops
    ]


def _not_found_by_themselves(gallery: LoadedGallery, draw: random.Random) -> list[str]:
    count = len(gallery.shards)
    problems = []
    for row in draw.sample(range(count), min(SELF_SEARCHES, count)):
        vector = gallery.index.vectors(np.array([row], np.int64))[0]
        if not vector.any():
            continue  # its crops cancel each other out: it is like nobody, itself included
        own = float(gallery.index.cosines(vector, np.array([row], np.int64))[0])
        best = float(gallery.index.search(vector, 1)[1][0])
        # By score, not by row: crops that hardly differ make tracklets that come first just as well. One whose vector
        # was rounded up to a length above 1 may even be ahead, by that much.
        if own < SAME_COSINE or not own - SCORE_STEP <= best <= own + _ROUNDING:
            problems.append(f"{gallery.columns.tracklet_ids[row]}: a search for it does not find it first")
    return problems


def _embedded_differently(
    gallery: Path,
    repository: GalleryRepository,
    embedder: Embedder,
    shards: Mapping[str, Shard],
    draw: random.Random,
) -> list[str]:
    segments = repository.segments(embedder.version)
    problems = []
    for one in draw.choices(segments, weights=[one.tracklets for one in segments], k=SPOT_CHECKS) if segments else []:
        segment = read_segment(gallery, one.name)
        crop = draw.randrange(len(segment.crops))
        tracklet = int(segment.crop_tracklet[crop])
        number = crop - int(np.searchsorted(segment.crop_tracklet, tracklet))
        shard, tracklet_id = list(segment.rows())[tracklet]
        if shard not in shards:
            continue  # replaced since
        try:
            image = _crop_image(shards[shard], tracklet_id, number)
        except (ValueError, OSError):
            if shards[shard].path.is_dir():
                raise
            continue
        cosine = float(embedder.embed([image])[0] @ segment.crops[crop].astype(np.float32))
        if not cosine >= SAME_COSINE:
            problems.append(f"{tracklet_id}: crop {number} embedded again has cosine {cosine:.3f} with what is stored")
    return problems


def _crop_image(shard: Shard, tracklet_id: str, number: int) -> NDArray[np.uint8]:
    from models.images import decode_image

    crops = shard.crops()
    row = [at for at, owner in enumerate(crops.column("tracklet_id").to_pylist()) if owner == tracklet_id][number]
    offset, length = (crops.column(name)[row].as_py() for name in ("offset", "length"))
    return decode_image(shard.read_jpeg(offset, length), what=f"{shard.path}: a crop of {tracklet_id}")
