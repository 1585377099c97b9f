"""Cross-camera retrieval on a site's own tracklets, where ground truth exists.

Query = each tracklet whose person another camera also saw; gallery = all tracklets of the other cameras;
vector = the normalised mean of the tracklet's crop embeddings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calr.metrics import Retrieval, evaluate_ranking, other_cameras_only

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


def evaluate_site(vectors: Floats, cameras: Ids, identities: Ids) -> Retrieval:
    """Score tracklet vectors against the true identities.

    Args:
        vectors: (tracklets, D), normalised.
        cameras: (tracklets,) camera index.
        identities: (tracklets,) true person id, −1 for a tracklet of nobody.

    Raises:
        ValueError: no person was seen by two cameras.
    """
    positive, valid = other_cameras_only(identities, cameras)
    queries = positive.any(axis=1)
    if not queries.any():
        raise ValueError(
            "no person of the ground truth has tracklets in two cameras: cross-camera search is unmeasured"
        )
    distance = 1.0 - vectors[queries] @ vectors.T
    return evaluate_ranking(distance, positive[queries], valid[queries])
