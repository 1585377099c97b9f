"""The k-reciprocal Jaccard distance as it is commonly computed: dense N × N arrays of encodings and distances, Python
loops over rows, an inverted index for the minima. The rival that `models.matching.jaccard` is measured against.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dense_jaccard(features: NDArray[np.float32], k1: int = 15, k2: int = 4) -> NDArray[np.float32]:
    """(N, N) float32 distances; features (N, D), rows of length 1, ranked in their own precision."""
    n = len(features)
    ranked = np.empty((n, k1 + 1), dtype=np.int64)
    for start in range(0, n, 1024):
        distance = 2 - 2 * (features[start : start + 1024] @ features.T)
        rows = np.arange(len(distance))
        distance[rows, start + rows] = -1  # each vector comes first in its own ranking, duplicates after it
        nearest = np.argpartition(distance, k1 + 1, axis=1)[:, : k1 + 1]
        order = np.argsort(np.take_along_axis(distance, nearest, axis=1), axis=1, kind="stable")
        ranked[start : start + 1024] = np.take_along_axis(nearest, order, axis=1)
    half = round(k1 / 2)

    def reciprocal(i: int, k: int) -> NDArray[np.int64]:
        forward = ranked[i, : k + 1]
        found: NDArray[np.int64] = forward[(ranked[forward, : k + 1] == i).any(axis=1)]
        return found

    narrow = [reciprocal(i, half) for i in range(n)]
    encoding = np.zeros((n, n), dtype=np.float32)
    inside = np.zeros(n, dtype=bool)
    for i in range(n):
        own = reciprocal(i, k1)
        parts = [own]
        inside[own] = True
        for j in own:
            other = narrow[j]
            if 3 * np.count_nonzero(inside[other]) > 2 * len(other):
                parts.append(other)
        inside[own] = False
        members = np.unique(np.concatenate(parts))
        weight = np.exp(-np.maximum(2 - 2 * (features[members] @ features[i]), 0))
        encoding[i, members] = weight / weight.sum()
    if k2 > 1:
        expanded = np.empty_like(encoding)
        for i in range(n):
            encoding[ranked[i, :k2]].mean(axis=0, out=expanded[i])
        encoding = expanded
    by_row, by_column = np.nonzero(encoding)
    order = np.argsort(by_column, kind="stable")
    having = np.split(by_row[order], np.cumsum(np.bincount(by_column, minlength=n))[:-1])
    out = np.empty((n, n), dtype=np.float32)
    for i in range(n):
        minima = np.zeros(n, dtype=np.float32)
        for k in np.flatnonzero(encoding[i]):
            rows = having[k]
            minima[rows] += np.minimum(encoding[i, k], encoding[rows, k])
        out[i] = 1 - minima / (2 - minima)
    return out
