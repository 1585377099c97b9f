"""Nearest neighbours by cosine similarity, exact, in chunks, on whatever device the vectors are."""

from __future__ import annotations

from typing import overload

import numpy as np
import numpy.typing as npt
import torch

Arrays = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
Tensors = tuple[torch.Tensor, torch.Tensor]


@overload
def top_k(queries: torch.Tensor, gallery: torch.Tensor, k: int, chunk: int = 4096) -> Tensors: ...
@overload
def top_k(
    queries: npt.NDArray[np.floating], gallery: npt.NDArray[np.floating], k: int, chunk: int = 4096
) -> Arrays: ...
def top_k(
    queries: torch.Tensor | npt.NDArray[np.floating],
    gallery: torch.Tensor | npt.NDArray[np.floating],
    k: int,
    chunk: int = 4096,
) -> Tensors | Arrays:
    """The ``k`` gallery vectors most similar to each query, best first.

    Args:
        queries: (n, D), rows of length 1.
        gallery: (m, D), rows of length 1, same kind and device.
        k: how many; fewer come back where the gallery has fewer.
        chunk: queries handled at once; memory is chunk × m floats.

    Returns:
        similarity (n, k) float32 and index (n, k) int64; tensors for tensors, arrays for arrays.

    Raises:
        ValueError: shapes that do not go together, or k < 1.
    """
    if isinstance(queries, np.ndarray) or isinstance(gallery, np.ndarray):
        similarity, index = top_k(torch.as_tensor(queries), torch.as_tensor(gallery), k, chunk)
        return similarity.numpy(), index.numpy()
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries {tuple(queries.shape)} and gallery {tuple(gallery.shape)} do not go together")
    _check(k)
    queries, gallery = queries.float(), gallery.float()
    k = min(k, len(gallery))
    similarity = torch.empty((len(queries), k), dtype=torch.float32, device=queries.device)
    index = torch.empty((len(queries), k), dtype=torch.int64, device=queries.device)
    for start in range(0, len(queries) if k else 0, chunk):
        scores = queries[start : start + chunk] @ gallery.T
        similarity[start : start + chunk], index[start : start + chunk] = scores.topk(k, dim=1)
    return similarity, index


@overload
def nearest_others(features: torch.Tensor, k: int, chunk: int = 2048) -> Tensors: ...
@overload
def nearest_others(features: npt.NDArray[np.floating], k: int, chunk: int = 2048) -> Arrays: ...
def nearest_others(features: torch.Tensor | npt.NDArray[np.floating], k: int, chunk: int = 2048) -> Tensors | Arrays:
    """The ``k`` vectors most similar to each vector among all others, best first.

    Like :func:`top_k` of the vectors with themselves, but i·j = j·i is computed once; memory is chunk × chunk floats.

    Args:
        features: (N, D), rows of length 1.
        k: how many; fewer come back where there are fewer others.
        chunk: vectors handled at once.

    Returns:
        similarity (N, k) float32 and index (N, k) int64; tensors for a tensor, arrays for an array.

    Raises:
        ValueError: features that are not (N, D), or k < 1.
    """
    if isinstance(features, np.ndarray):
        similarity, index = nearest_others(torch.as_tensor(features), k, chunk)
        return similarity.numpy(), index.numpy()
    if features.ndim != 2:
        raise ValueError(f"features must be (N, D), got shape {tuple(features.shape)}")
    _check(k)
    features, n = features.float(), len(features)
    k = max(min(k, n - 1), 0)
    similarity = torch.full((n, k), -torch.inf, device=features.device)
    index = torch.full((n, k), -1, dtype=torch.int64, device=features.device)

    def offer(rows: slice, first: int, scores: torch.Tensor) -> None:
        """Vectors first, first + 1, ... compete with the best so far of some rows."""
        best, where = scores.topk(min(k, scores.shape[1]), dim=1)
        both = torch.cat([similarity[rows], best], dim=1)
        similarity[rows], place = both.topk(k, dim=1)
        index[rows] = torch.cat([index[rows], where + first], dim=1).gather(1, place)

    for i in range(0, n if k else 0, chunk):
        rows = slice(i, min(i + chunk, n))
        for j in range(i, n, chunk):
            columns = slice(j, min(j + chunk, n))
            scores = features[rows] @ features[columns].T
            if i == j:
                scores.fill_diagonal_(-torch.inf)
            offer(rows, j, scores)
            if i != j:
                offer(columns, i, scores.T.contiguous())
    return similarity, index


def _check(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")


_TIE = 1e-9
"""Similarities closer than this count as equal: far above float64's rounding, far below what tells vectors apart."""

_MARGIN = 8


def ranked_neighbours(features: torch.Tensor, k: int, chunk: int = 2048) -> npt.NDArray[np.int64]:
    """The ranking that k-reciprocal neighbours start from: each vector itself, then its ``k`` nearest others.

    Unlike :func:`top_k` it is the same whatever the chunk, device or thread count: similarities are compared in
    float64, and equal ones (duplicates, of which static scenes give many) are ordered by index.

    Args:
        features: (N, D) float32, rows of length 1.
        k: number of neighbours besides the vector itself; fewer where N is smaller.
        chunk: vectors handled at once; memory is chunk × chunk floats.

    Returns:
        (N, min(k, N−1) + 1) int64.
    """
    n = len(features)
    k = min(k, n - 1)
    ranked = np.empty((n, k + 1), dtype=np.int64)
    ranked[:, 0] = np.arange(n)
    if k < 1:
        return ranked
    similarity, index = nearest_others(features, k + _MARGIN, chunk)
    for start in range(0, n, 64):
        rows = slice(start, start + 64)
        candidates = index[rows]
        exact = torch.einsum("nd,nkd->nk", features[rows].double(), features[candidates].double())
        keys = np.round(exact.cpu().numpy() / _TIE)
        columns = candidates.cpu().numpy()
        order = np.lexsort((columns, -keys), axis=1)[:, :k]
        ranked[rows, 1:] = np.take_along_axis(columns, order, axis=1)
    if index.shape[1] < n - 1:
        # float32 products are good to about 1e-6. Where the k-th neighbour is that close to the last candidate, one
        # that was cut off might belong before it.
        unsure = torch.nonzero(similarity[:, k - 1] - similarity[:, -1] < 4e-6).flatten().tolist()
        for row in unsure:
            keys = np.round((features.double() @ features[row].double()).cpu().numpy() / _TIE)
            keys[row] = -np.inf
            threshold = np.partition(keys, n - k)[n - k]
            columns = np.flatnonzero(keys >= threshold)
            ranked[row, 1:] = columns[np.lexsort((columns, -keys[columns]))][:k]
    return ranked
