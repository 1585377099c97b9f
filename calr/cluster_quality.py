"""How well clusters agree with true identities (the measures of CALR figure 5). For reports: training never sees it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cluster_quality(labels: NDArray[np.int64], identity: NDArray[np.int64]) -> dict[str, float]:
    """Precision, recall and F of "same cluster" as a statement about "same person", over all pairs of crops; expansion;
    normalised mutual information.

    Args:
        labels: (N,), -1 = in no cluster: pairs with such a crop are said to be different.
        identity: (N,), -1 = nobody: such a crop is the same person as no other.

    Returns:
        "precision", "recall", "f", "nmi": fractions, 0 where there is nothing to divide by; "expansion": how many
        clusters a person's clustered crops lie in on average, at best 1, 0 without a clustered crop. NMI (arithmetic
        mean of the entropies) and expansion are over clustered crops, NMI is 1 where neither side divides them.
    """
    person = identity.copy()
    nobody = np.flatnonzero(person < 0)
    person[nobody] = person.max(initial=0) + 1 + np.arange(len(nobody))
    kept = labels >= 0
    cells, shared = np.unique(np.stack([labels[kept], person[kept]]), axis=1, return_counts=True)
    in_cluster = np.unique(labels[kept], return_counts=True)[1]
    of_person = np.unique(person[kept], return_counts=True)[1]
    together, claimed = _pairs(shared), _pairs(in_cluster)
    true = _pairs(np.unique(person, return_counts=True)[1])
    precision = together / claimed if claimed else 0.0
    recall = together / true if true else 0.0
    total = precision + recall
    spread = _entropy(in_cluster) + _entropy(of_person)
    return {
        "precision": precision,
        "recall": recall,
        "f": 2 * precision * recall / total if total else 0.0,
        "expansion": cells.shape[1] / len(of_person) if len(of_person) else 0.0,
        "nmi": 2 * (1 - _entropy(shared) / spread) if spread else float(kept.any()),
    }


def _pairs(counts: NDArray[np.int64]) -> int:
    return int((counts * (counts - 1) // 2).sum())


def _entropy(counts: NDArray[np.int64]) -> float:
    share = counts / max(counts.sum(), 1)
    return float(-(share * np.log(share)).sum())
