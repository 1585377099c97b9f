"""From a shard to vectors: one segment for each day on which its tracklets were first seen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gallery_service.storage.segments import Segment, day_of, make_segment
from gallery_service.storage.shard_rows import microseconds, shard_name

if TYPE_CHECKING:
    from ingest.shards import Shard
    from models.embedder import Embedder

_CHUNK = 256

KnownVectors = Mapping[bytes, NDArray[np.float16]]
"""Embeddings that a model made before, float16 (D,), by the SHA-256 of the JPEG."""


def embed_shard(
    shard: Shard,
    model_version: str,
    embedder: Callable[[], Embedder],
    known: KnownVectors,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Segment]:
    """Embed every crop of a shard.

    Args:
        shard: whose crops.
        model_version: of the model.
        embedder: gives the model; asked only when there is a crop that is not known.
        known: these crops are not embedded again.
        advance: told how many crops are done since it was last told.

    Returns:
        A segment for each day of which it has a crop.

    Raises:
        ValueError: a crop cannot be read.
    """
    from models.images import decode_image

    tracklets, crops = shard.tracklets(), shard.crops()
    ids: list[str] = tracklets.column("tracklet_id").to_pylist()
    days = np.array([day_of(moment) for moment in microseconds(tracklets, "first_seen")])
    number = {tracklet_id: row for row, tracklet_id in enumerate(ids)}
    owners = np.array([number[owner] for owner in crops.column("tracklet_id").to_pylist()], np.int32)
    # A tracklet's crops lie together in a segment, whatever the order of the manifest.
    order = np.argsort(owners, kind="stable")
    crop_ids, offsets, lengths = (crops.column(name).to_pylist() for name in ("crop_id", "offset", "length"))
    hashes: list[bytes] = []
    parts: list[NDArray[np.float16]] = []
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK].tolist()
        jpegs = [shard.read_jpeg(offsets[i], lengths[i]) for i in chunk]
        digests = [hashlib.sha256(jpeg).digest() for jpeg in jpegs]
        vectors = {digest: known[digest] for digest in digests if digest in known}
        new = [place for place, digest in enumerate(digests) if digest not in vectors]
        if new:
            images = [decode_image(jpegs[place], what=f"{shard.path}: crop {crop_ids[chunk[place]]}") for place in new]
            embedded = embedder().embed(images).astype(np.float16)
            vectors |= {digests[place]: vector for place, vector in zip(new, embedded, strict=True)}
        parts.append(np.stack([vectors[digest] for digest in digests]))
        hashes += digests
        advance(len(chunk))
    if not parts:
        return []
    owners, embeddings = owners[order], np.concatenate(parts)
    sha256 = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)
    segments = []
    for day in np.unique(days[owners]).tolist():
        of_day = np.flatnonzero(days[owners] == day)
        present, inverse = np.unique(owners[of_day], return_inverse=True)
        crop_tracklet = inverse.astype(np.int32)
        rows = [(shard_name(shard), ids[row]) for row in present.tolist()]
        segments.append(
            make_segment(model_version, shard.camera_id, day, rows, crop_tracklet, embeddings[of_day], sha256[of_day])
        )
    return segments
