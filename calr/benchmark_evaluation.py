"""A model bundle on a benchmark: embed query and gallery, rank, score, and judge its probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calr.benchmark_images import Files, left_out
from calr.datasets import Split, load_benchmark
from calr.metrics import evaluate_ranking, same_identity_same_camera_excluded
from calr.reliability import Sightings, judge_matches

if TYPE_CHECKING:
    from models.embedder import Embedder

BATCH = 128


def evaluate_bundle(dataset: str, root: Path, model: Path) -> dict[str, Any]:
    """mAP, rank1, rank5, rank10 (fractions), queries and gallery of a bundle on a benchmark; how many images were
    unreadable, if any; and for a calibrated bundle as "calibration" what its probabilities are worth, over each query's
    first matches in other cameras (`calr.reliability.Reliability`).

    Raises:
        DatasetError: the data set is unknown or not there.
        models.bundle.BundleError: the bundle is missing or damaged.
    """
    from models.bundle import load_bundle
    from models.embedder import Embedder

    parts = load_benchmark(dataset, root)
    bundle = load_bundle(model)
    embedder = Embedder(bundle)
    asking, query = embed_split(embedder, parts.query, "query")
    answering, gallery = embed_split(embedder, parts.gallery, "gallery")
    positive, valid = same_identity_same_camera_excluded(
        query.identities, query.cameras, gallery.identities, gallery.cameras
    )
    found: dict[str, Any] = {**evaluate_ranking(1.0 - asking @ answering.T, positive, valid).as_dict()}
    found |= left_out([parts.query, parts.gallery], [query, gallery])
    if bundle.calibration is not None:
        judged = judge_matches(
            bundle.calibration,
            Sightings(asking, query.cameras, query.identities),
            Sightings(answering, gallery.cameras, gallery.identities),
        )
        found["calibration"] = None if judged is None else judged.as_dict()
    return found


def embed_split(embedder: Embedder, split: Split, title: str) -> tuple[NDArray[np.float32], Split]:
    """(n, D) embeddings of a split's readable images, and the split of just those, with progress on standard error."""
    from rich.console import Console
    from rich.progress import track

    files, found = Files(split), []
    for start in track(range(0, len(split.files), BATCH), f"embedding {title}", console=Console(stderr=True)):
        numbers = range(start, min(start + BATCH, len(split.files)))
        images = [image for image in map(files.image, numbers) if image is not None]
        if images:
            found.append(embedder.embed(images))
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32), files.kept()[1]
