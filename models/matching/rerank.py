"""k-reciprocal re-ranking of search results: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal
Encoding", CVPR 2017 (arXiv 1701.08398)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from models.matching.jaccard import neighbour_encoding, shared_weight_between
from models.matching.neighbours import ranked_neighbours


def k_reciprocal_rerank(
    query: npt.NDArray[np.floating] | torch.Tensor,
    gallery: npt.NDArray[np.floating] | torch.Tensor,
    k1: int = 20,
    k2: int = 6,
    lambda_: float = 0.3,
) -> npt.NDArray[np.float32]:
    """Distances that also ask whether query and gallery item have the same neighbours (eq. 12).

    d = (1 − λ) · Jaccard distance + λ · original distance, where the original one is the squared Euclidean divided by
    the query's largest, as in the authors' code, so that both lie in 0..1.

    Args:
        query: (Q, D), rows of length 1.
        gallery: (G, D), rows of length 1.
        k1, k2: see :func:`models.matching.jaccard.jaccard_distance`; the defaults are the paper's.
        lambda_: λ, weight of the original distance; 1 leaves the order as it was.

    Returns:
        (Q, G) float32, smaller is better.

    Raises:
        ValueError: shapes that do not go together, values that are not finite, k1 < 1, k2 < 1 or λ outside 0..1.
    """
    left, right = torch.as_tensor(query).float(), torch.as_tensor(gallery).float()
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise ValueError(f"query {tuple(left.shape)} and gallery {tuple(right.shape)} do not go together")
    if k1 < 1 or k2 < 1 or not 0.0 <= lambda_ <= 1.0:
        raise ValueError(f"need k1 ≥ 1, k2 ≥ 1 and 0 ≤ lambda_ ≤ 1, got {k1}, {k2} and {lambda_}")
    count = len(left)
    if count == 0 or len(right) == 0:
        return np.zeros((count, len(right)), dtype=np.float32)
    both = torch.cat((left, right))
    if not bool(torch.isfinite(both).all()):
        raise ValueError("query and gallery must be finite")
    scale = _largest_distances(both)
    encoding = neighbour_encoding(both, ranked_neighbours(both, max(k1, k2 - 1)), k1, k2, scale)
    jaccard = 1.0 - shared_weight_between(encoding[:count], encoding[count:]).toarray()
    original = (2.0 - 2.0 * (left.double() @ right.double().T)).clamp(min=0.0).cpu().numpy() / scale[:count, None]
    return ((1.0 - lambda_) * jaccard + lambda_ * original).astype(np.float32)


def _largest_distances(vectors: torch.Tensor, chunk: int = 1024) -> npt.NDArray[np.float64]:
    """Each vector's largest squared distance to any; 1 where all are the same, so that it can divide."""
    doubles = vectors.double()
    smallest = torch.cat([(doubles[i : i + chunk] @ doubles.T).amin(dim=1) for i in range(0, len(doubles), chunk)])
    largest = (2.0 - 2.0 * smallest).cpu().numpy()
    return np.where(largest > 1e-9, largest, 1.0)
