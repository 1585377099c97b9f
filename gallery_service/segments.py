"""Vector segments: what one model made of one shard, in one immutable file that can tell whether it is whole.

A segment is gallery/<model version>/<shard>.safetensors, where a shard is named <camera>/<shard id>. Its tensors are

    means           float32 (T, D)   per tracklet, the normalised mean of its crops' embeddings
    crops           float16 (M, D)   per crop, its normalised embedding
    crop_tracklet   int32   (M,)     row of `means` that the crop belongs to

and its metadata has one entry, `segment`: JSON with schema, model version, shard, the tracklets' and crops' ids
in row order, and the SHA-256 of all of it. It is written to a temporary file, fsynced and renamed, so a process killed
at any moment leaves a whole segment or none. The format's header order depends on the writer when there are several
metadata entries; with one, the same vectors always give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gallery_service.errors import SegmentError
from models.atomic import write_bytes

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Segment:
    """Vectors of one shard by one model; see the module for shapes."""

    model_version: str
    shard: str
    tracklet_ids: list[str]
    crop_ids: list[str]
    crop_tracklet: NDArray[np.int32]
    means: NDArray[np.float32]
    crops: NDArray[np.float16]


def segment_path(gallery: Path, model_version: str, shard: str) -> Path:
    """Where a segment lies below the gallery's folder."""
    return gallery / model_version / f"{shard}{SUFFIX}"


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


def write_segment(path: Path, segment: Segment) -> None:
    """Write a segment, whole or not at all."""
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {
        "means": np.ascontiguousarray(segment.means, "<f4"),
        "crops": np.ascontiguousarray(segment.crops, "<f2"),
        "crop_tracklet": np.ascontiguousarray(segment.crop_tracklet, "<i4"),
    }
    header: dict[str, Any] = {
        "schema": 1,
        "model_version": segment.model_version,
        "shard": segment.shard,
        "tracklet_ids": segment.tracklet_ids,
        "crop_ids": segment.crop_ids,
    }
    header["sha256"] = _digest(header, tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save(tensors, metadata={"segment": json.dumps(header, sort_keys=True)}))


def read_segment(path: Path, *, model_version: str, shard: str) -> Segment:
    """Read a segment and check that it is whole and what it should be.

    Raises:
        SegmentError: it is missing, damaged, or of another model or shard.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SegmentError(f"{path}: cannot be read ({error.strerror}); run the index command again") from None
    try:
        header, tensors = _parse(content)
        sha256 = header.pop("sha256")
        whole = sha256 == _digest(header, tensors)
        segment = Segment(
            model_version=header["model_version"],
            shard=header["shard"],
            tracklet_ids=header["tracklet_ids"],
            crop_ids=header["crop_ids"],
            crop_tracklet=tensors["crop_tracklet"],
            means=tensors["means"],
            crops=tensors["crops"],
        )
    except Exception as error:
        raise SegmentError(f"{path}: damaged ({type(error).__name__}); run the index command again") from None
    if not whole:
        raise SegmentError(f"{path}: damaged (its checksum does not match); run the index command again")
    if (segment.model_version, segment.shard) != (model_version, shard):
        raise SegmentError(f"{path}: belongs to another model or shard; run the index command again")
    return segment


def _parse(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    from safetensors.numpy import load

    tensors = load(content)  # checks the layout against the length
    header_length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + header_length])["__metadata__"]
    header = json.loads(metadata["segment"])
    if not isinstance(header, dict) or header["schema"] != 1:
        raise ValueError("unknown schema")
    return header, tensors


def _digest(header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()
