"""The k-reciprocal Jaccard distance as it is commonly computed: dense N × N arrays, a Python loop over rows, an
inverted index for the minima. The rival that `models.matching.jaccard` is measured against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dense_jaccard(features: NDArray[np.float32], k1: int = 15, k2: int = 4) -> NDArray[np.float32]:
    """(N, N) float32 distances; features (N, D) float32, rows of length 1."""
    n = len(features)
    distance = np.maximum(2 - 2 * (features @ features.T), 0)
    np.fill_diagonal(distance, -1)  # each vector comes first in its own ranking, duplicates after it
    nearest = np.argpartition(distance, k1 + 1, axis=1)[:, : k1 + 1]
    order = np.argsort(np.take_along_axis(distance, nearest, axis=1), axis=1, kind="stable")
    ranked = np.take_along_axis(nearest, order, axis=1)
    np.fill_diagonal(distance, 0)
    half = round(k1 / 2)

    def reciprocal(i: int, k: int) -> NDArray[np.int64]:
        forward = ranked[i, : k + 1]
        found: NDArray[np.int64] = forward[(ranked[forward, : k + 1] == i).any(axis=1)]
        return found

    narrow = [reciprocal(i, half) for i in range(n)]
    encoding = np.zeros((n, n), dtype=np.float32)
    for i in range(n):
        own = reciprocal(i, k1)
        parts = [own]
        for j in own:
            other = narrow[j]
            if 3 * np.isin(other, own).sum() > 2 * len(other):
                parts.append(other)
        members = np.unique(np.concatenate(parts))
        weight = np.exp(-distance[i, members])
        encoding[i, members] = weight / weight.sum()
    if k2 > 1:
        encoding = np.stack([encoding[ranked[i, :k2]].mean(axis=0) for i in range(n)])
    having = [np.flatnonzero(column) for column in encoding.T]
    out = np.empty((n, n), dtype=np.float32)
    for i in range(n):
        minima = np.zeros(n, dtype=np.float32)
        for k in np.flatnonzero(encoding[i]):
            rows = having[k]
            minima[rows] += np.minimum(encoding[i, k], encoding[rows, k])
        out[i] = 1 - minima / (2 - minima)
    return out
