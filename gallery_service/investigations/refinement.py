"""Relevance feedback: search again with what was confirmed, and away from what was rejected.

The idea is Rocchio's ("Relevance feedback in information retrieval", in: Salton (ed.), The SMART Retrieval System,
1971): move the query towards what was confirmed. docs/investigations.md has what each part was measured to be worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# How much a tracklet loses for looking more like a rejected one than like the person.
_REJECTED = 0.25


@dataclass(frozen=True)
class Evidence:
    """What an investigation knows of somebody, all vectors by one model and of length 1.

    Attributes:
        shown: float32 (N, D), N at least 1: what was searched for and what was confirmed.
        rejected: float32 (M, D): who it is not; M may be 0.
    """

    shown: NDArray[np.float32]
    rejected: NDArray[np.float32]

    def prototype(self) -> NDArray[np.float32]:
        """The mean of everything that shows the person, float32 (D,) of length 1: every confirmed hit weighs as much as
        a query."""
        mean = self.shown.astype(np.float64).mean(axis=0)
        length = np.linalg.norm(mean)
        prototype: NDArray[np.float32] = (mean / (length if length > 0 else 1.0)).astype(np.float32)
        return prototype

    def order(self, candidates: NDArray[np.float32]) -> NDArray[np.int64]:
        """The order of candidates by all that is known, best first.

        A candidate counts by its cosine with the mean and with the one picture of the person that it is most like:
        somebody seen from behind resembles the one view from behind, not the mean of all views. One that is more like a
        rejected tracklet than like the person falls behind.

        Args:
            candidates: float32 (K, D), of length 1.

        Returns:
            int64 (K,); equals stay in the order they came in.
        """
        vectors = candidates.astype(np.float64)
        score = (vectors @ self.prototype() + (vectors @ self.shown.T.astype(np.float64)).max(axis=1)) / 2
        if len(self.rejected):
            nearest = (vectors @ self.rejected.T.astype(np.float64)).max(axis=1)
            score = score - _REJECTED * np.maximum(0.0, nearest - score)
        return np.argsort(-np.round(score, 6), kind="stable")
