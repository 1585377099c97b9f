"""DBSCAN on the sparse distances is DBSCAN, in plain words."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calr.dbscan_clusters import dbscan_clusters
from models.matching.jaccard import jaccard_distance


def plain_dbscan(distance: NDArray[np.float32], eps: float, min_samples: int) -> NDArray[np.int64]:
    """Core nodes by index; each takes all it reaches over core nodes."""
    n = len(distance)
    near = [np.flatnonzero(row <= eps).tolist() for row in distance]
    core = [len(found) >= min_samples for found in near]
    labels = np.full(n, -1, dtype=np.int64)
    count = 0
    for start in range(n):
        if labels[start] >= 0 or not core[start]:
            continue
        waiting = [start]
        labels[start] = count
        while waiting:
            for other in near[waiting.pop()]:
                if labels[other] < 0:
                    labels[other] = count
                    if core[other]:
                        waiting.append(other)
        count += 1
    return labels


@pytest.mark.parametrize("n", [1, 2, 5, 40, 120])
@pytest.mark.parametrize("eps", [0.4, 0.6])
def test_equals_the_plain_definition(n: int, eps: float) -> None:
    draw = np.random.default_rng(n)
    centres = draw.normal(size=(max(1, n // 7), 12))
    features = centres[draw.integers(0, len(centres), n)] + 0.5 * draw.normal(size=(n, 12))
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    found = dbscan_clusters(features, eps, 3, 8, 3)
    distance = 1 - jaccard_distance(features, 8, 3).toarray()
    expected = plain_dbscan(distance, eps, 3)
    assert np.array_equal(found == -1, expected == -1)
    # A border node between two clusters may belong to either: only core nodes are settled.
    core = (distance <= eps).sum(1) >= 3
    pairs = set(zip(found[core].tolist(), expected[core].tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_duplicates_are_one_cluster_and_nothing_is_none() -> None:
    features = np.repeat(np.eye(4, dtype=np.float32), 6, axis=0)
    assert dbscan_clusters(features, 0.5, 4, 5, 2).tolist() == np.repeat(np.arange(4), 6).tolist()
    assert dbscan_clusters(np.zeros((0, 8), np.float32), 0.5, 4, 5, 2).shape == (0,)
