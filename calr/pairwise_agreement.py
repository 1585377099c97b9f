"""How well clusters agree with true identities, counted over pairs. For reports only: training never sees it."""

import numpy as np
from numpy.typing import NDArray


def pairwise_agreement(labels: NDArray[np.int64], identity: NDArray[np.int64]) -> dict[str, float]:
    """Precision, recall and F of "same cluster" as a statement about "same person", over all pairs of crops.

    Args:
        labels: (N,), -1 = in no cluster: pairs with such a crop are said to be different.
        identity: (N,), -1 = nobody: such a crop is the same person as no other.

    Returns:
        {"precision", "recall", "f"}, fractions; 0 where there is nothing to divide by.
    """
    person = identity.copy()
    nobody = np.flatnonzero(person < 0)
    person[nobody] = person.max(initial=0) + 1 + np.arange(len(nobody))
    kept = labels >= 0
    together = _pairs(np.unique(np.stack([labels[kept], person[kept]]), axis=1, return_counts=True)[1])
    claimed = _pairs(np.unique(labels[kept], return_counts=True)[1])
    true = _pairs(np.unique(person, return_counts=True)[1])
    precision = together / claimed if claimed else 0.0
    recall = together / true if true else 0.0
    total = precision + recall
    return {"precision": precision, "recall": recall, "f": 2 * precision * recall / total if total else 0.0}


def _pairs(counts: NDArray[np.int64]) -> int:
    return int((counts * (counts - 1) // 2).sum())
