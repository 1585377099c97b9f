"""Exact search over tracklet vectors, with the filters inside it.

The FAISS index is a cache in memory, built from the segments. Filtering inside the search (not after it) means that the
k best *allowed* tracklets are found however few are allowed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Inner products of the same vectors may differ in the last bits with where they lie in memory: scores closer than this
# are one score.
SCORE_STEP = 1e-6


class TrackletIndex:
    """Inner-product search over all vectors, one by one.

    Args:
        vectors: float16 or float32 (N, D), L2-normalised; row order is the order among equal scores.
    """

    def __init__(self, vectors: NDArray[np.floating[Any]]) -> None:
        faiss = _faiss()
        self.dim = int(vectors.shape[1])
        self._index = faiss.IndexFlatIP(self.dim)
        self._index.add(np.ascontiguousarray(vectors, np.float32))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of some rows, float32 (len(rows), D)."""
        found: NDArray[np.float32] = self._index.reconstruct_batch(np.ascontiguousarray(rows, np.int64))
        return found

    def search(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The k best allowed rows.

        Args:
            query: float32 (D,), L2-normalised.
            k: at most this many.
            allowed: bool (N,), rows that may be found; None: all.

        Returns:
            rows int64 and their cosines float64 (steps of `SCORE_STEP`), best first, the lower row first among equals.
            Fewer than k when fewer are allowed.
        """
        faiss = _faiss()
        total = len(self) if allowed is None else int(np.count_nonzero(allowed))
        k = min(k, total)
        if k <= 0:
            return np.empty(0, np.int64), np.empty(0, np.float64)
        parameters = None
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            selector = faiss.IDSelectorBitmap(bits)
            parameters = faiss.SearchParameters(sel=selector)
        queries = np.ascontiguousarray(query, np.float32)[None]
        # One more than asked for tells whether the last place is shared.
        scores, found = self._index.search(queries, min(k + 1, total), params=parameters)
        rows = found[0][found[0] >= 0].astype(np.int64)
        if total > k and scores[0, k - 1] - scores[0, k] <= 2 * SCORE_STEP:
            # Which of several equals FAISS kept is chance: look at all that reach the last place.
            reach = float(scores[0, k - 1]) - 2 * SCORE_STEP
            _, _, within = self._index.range_search(queries, reach, params=parameters)
            rows = within.astype(np.int64)
        # Scored again in one fixed order of additions, so that equal vectors have equal scores.
        products = (self.vectors(rows).astype(np.float64) * query.astype(np.float64)).sum(axis=1)
        cosines = np.clip(np.round(products / SCORE_STEP) * SCORE_STEP, -1.0, 1.0)
        order = np.lexsort((rows, -cosines))[:k]
        return rows[order], cosines[order]


def _faiss() -> Any:
    # Its type stubs describe the C++ side, not the arrays its Python side takes.
    import faiss

    return faiss
