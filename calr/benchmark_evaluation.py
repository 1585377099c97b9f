"""A model bundle on a benchmark: embed query and gallery, rank, score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calr.datasets import Split, load_benchmark
from calr.metrics import evaluate_ranking, same_identity_same_camera_excluded

if TYPE_CHECKING:
    from models.embedder import Embedder

BATCH = 128


def evaluate_bundle(dataset: str, root: Path, model: Path) -> dict[str, float | int]:
    """mAP, rank1, rank5, rank10 (fractions), queries and gallery of a bundle on a benchmark.

    Raises:
        DatasetError: the data set is unknown or not there.
        models.bundle.BundleError: the bundle is missing or damaged.
    """
    from models.bundle import load_bundle
    from models.embedder import Embedder

    parts = load_benchmark(dataset, root)
    embedder = Embedder(load_bundle(model))
    query = embed_split(embedder, parts.query, "query")
    gallery = embed_split(embedder, parts.gallery, "gallery")
    positive, valid = same_identity_same_camera_excluded(
        parts.query.identities, parts.query.cameras, parts.gallery.identities, parts.gallery.cameras
    )
    return evaluate_ranking(1.0 - query @ gallery.T, positive, valid).as_dict()


def embed_split(embedder: Embedder, split: Split, title: str) -> NDArray[np.float32]:
    """(n, D) embeddings of a split's images, with progress on standard error."""
    from rich.console import Console
    from rich.progress import track

    from models.images import decode_image

    found = []
    for start in track(range(0, len(split.files), BATCH), f"embedding {title}", console=Console(stderr=True)):
        files = split.files[start : start + BATCH]
        found.append(embedder.embed([decode_image(file.read_bytes(), what=str(file)) for file in files]))
    return np.concatenate(found)
