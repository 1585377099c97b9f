"""Silhouette of clusters under cosine distance, exact and without an N × N matrix.

For L2-normalised features the mean cosine distance from a point to a cluster is one dot product with the cluster's
mean: mean_j (1 - x·y_j) = 1 - x·mean(y). So the silhouette (Rousseeuw 1987) of N points in C clusters costs
O(N·C·D) time and O(N·C) memory in chunks.
"""

import numpy as np
from numpy.typing import NDArray


def silhouette(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    scope: NDArray[np.int64] | None = None,
    chunk: int = 2048,
) -> float:
    """Mean silhouette of the labelled points.

    Args:
        features: (N, D), L2-normalised.
        labels: (N,), -1 = in no cluster (left out).
        scope: (N,), points are only compared with clusters of their own scope (a camera, say). All points of a cluster
            must have the same scope. None = one scope.
        chunk: points handled at once.

    Returns:
        A number in [-1, 1], higher is better; 0.0 where nothing can be said (no point, or a single cluster in every
        scope). Points alone in their cluster, or in the only cluster of their scope, count as 0.
    """
    kept = labels >= 0
    if not kept.any():
        return 0.0
    x = features[kept].astype(np.float64)
    names, cluster = np.unique(labels[kept], return_inverse=True)
    where = np.zeros(len(x), dtype=np.int64) if scope is None else scope[kept]
    count = np.bincount(cluster, minlength=len(names)).astype(np.float64)
    total = np.zeros((len(names), x.shape[1]))
    np.add.at(total, cluster, x)
    cluster_scope = np.zeros(len(names), dtype=np.int64)
    cluster_scope[cluster] = where
    mean = total / count[:, None]
    values = np.zeros(len(x))
    for start in range(0, len(x), chunk):
        rows = slice(start, min(start + chunk, len(x)))
        own = cluster[rows]
        distance = 1.0 - x[rows] @ mean.T
        size = count[own]
        # The point itself is at distance 0 of itself and is not among its neighbours.
        own_distance = distance[np.arange(len(own)), own] * size / np.maximum(size - 1, 1)
        own_distance -= (1.0 - (x[rows] * x[rows]).sum(1)) / np.maximum(size - 1, 1)
        distance[np.arange(len(own)), own] = np.inf
        distance[cluster_scope[None, :] != where[rows][:, None]] = np.inf
        other = distance.min(1)
        known = (size > 1) & np.isfinite(other)
        scale = np.maximum(own_distance[known], other[known])
        values[rows][known] = np.where(scale > 0, (other[known] - own_distance[known]) / np.maximum(scale, 1e-12), 0.0)
    return float(values.mean())
