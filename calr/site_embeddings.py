"""A site's crops as one model sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calr.label_free import LabelFreeScore, label_free_score
from calr.neighbour_graph import node_features

if TYPE_CHECKING:
    from ingest.shards import CropSet
    from models.bundle import Bundle

BATCH = 256


@dataclass(frozen=True)
class SiteEmbeddings:
    """crops: (crops, D) normalised; tracklets: (tracklets, D), their normalised means."""

    crops: NDArray[np.float32]
    tracklets: NDArray[np.float32]


def embed_site(crops: CropSet, bundle: Bundle) -> SiteEmbeddings:
    """Embed every crop through the exported model, the same way the gallery does, with progress on standard error."""
    from rich.console import Console
    from rich.progress import track

    from models.embedder import Embedder

    embedder = Embedder(bundle)
    found = np.zeros((len(crops), bundle.embedding_dim), np.float32)
    starts = range(0, len(crops), BATCH)
    for start in track(starts, f"embedding with {bundle.version}", console=Console(stderr=True)):
        rows = range(start, min(start + BATCH, len(crops)))
        found[rows.start : rows.stop] = embedder.embed([crops.image(row) for row in rows])
    return SiteEmbeddings(found, node_features(found, crops.tracklet, len(crops.tracklet_ids)))


def judge_without_labels(
    crops: CropSet, embeddings: SiteEmbeddings, clusters: NDArray[np.int64] | None = None
) -> LabelFreeScore:
    """The label-free score of a model's embeddings of this site."""
    return label_free_score(embeddings.crops, crops.tracklet, crops.pts_s, crops.tracklet_camera, clusters)
