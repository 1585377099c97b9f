"""Global clusters the classic way: DBSCAN (Ester et al. 1996) on k-reciprocal Jaccard distance, as in SpCL (Ge et al.,
NeurIPS 2020) and Cluster Contrast. The alternative that Infomap is measured against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from calr.infomap_clusters import renumber
from models.matching.jaccard import jaccard_distance


def dbscan_clusters(features: NDArray[np.float32], eps: float, min_samples: int, k1: int, k2: int) -> NDArray[np.int64]:
    """DBSCAN over nodes.

    Args:
        features: (M, D) L2-normalised.
        eps: Jaccard distance up to which two nodes are neighbours, in (0, 1).
        min_samples: a node with so many neighbours, itself included, starts or extends a cluster.
        k1, k2: see `models.matching.jaccard.jaccard_distance`.

    Returns:
        (M,) int64 labels 0..C-1 in order of first member, -1 for outliers.
    """
    if not len(features):
        return np.zeros(0, dtype=np.int64)
    from sklearn.cluster import DBSCAN  # type: ignore[import-untyped, unused-ignore]

    distance = sparse.coo_array(jaccard_distance(features, k1, k2))
    near = 1.0 - distance.data <= eps
    # Pairs that are not stored have distance 1, more than any eps.
    graph = sparse.csr_array(
        (np.maximum(1.0 - distance.data[near], 0.0), (distance.row[near], distance.col[near])), shape=distance.shape
    )
    found = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(sparse.csr_matrix(graph)).labels_
    return renumber(found.astype(np.int64))
