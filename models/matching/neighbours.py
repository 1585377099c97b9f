"""Nearest neighbours by cosine similarity, exact, in chunks, on whatever device the vectors are."""

from __future__ import annotations

from typing import overload

import numpy as np
import numpy.typing as npt
import torch


@overload
def top_k(
    queries: torch.Tensor, gallery: torch.Tensor, k: int, chunk: int = 4096, exclude_self: bool = False
) -> tuple[torch.Tensor, torch.Tensor]: ...
@overload
def top_k(
    queries: npt.NDArray[np.floating],
    gallery: npt.NDArray[np.floating],
    k: int,
    chunk: int = 4096,
    exclude_self: bool = False,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]: ...
def top_k(
    queries: torch.Tensor | npt.NDArray[np.floating],
    gallery: torch.Tensor | npt.NDArray[np.floating],
    k: int,
    chunk: int = 4096,
    exclude_self: bool = False,
) -> tuple[torch.Tensor, torch.Tensor] | tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The ``k`` gallery vectors most similar to each query, best first.

    Args:
        queries: (n, D), rows of length 1.
        gallery: (m, D), rows of length 1, same kind and device.
        k: how many; fewer come back where the gallery has fewer.
        chunk: queries handled at once; memory is chunk × m floats.
        exclude_self: ``queries`` is ``gallery``, and a vector is not its own neighbour.

    Returns:
        similarity (n, k) float32 and index (n, k) int64; tensors for tensors, arrays for arrays.

    Raises:
        ValueError: shapes that do not go together, or k < 1.
    """
    if isinstance(queries, np.ndarray) or isinstance(gallery, np.ndarray):
        similarity, index = top_k(torch.as_tensor(queries), torch.as_tensor(gallery), k, chunk, exclude_self)
        return similarity.numpy(), index.numpy()
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries {tuple(queries.shape)} and gallery {tuple(gallery.shape)} do not go together")
    if exclude_self and len(queries) != len(gallery):
        raise ValueError("exclude_self needs the gallery itself as queries")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    queries, gallery = queries.float(), gallery.float()
    k = max(min(k, len(gallery) - int(exclude_self)), 0)
    similarity = torch.empty((len(queries), k), dtype=torch.float32, device=queries.device)
    index = torch.empty((len(queries), k), dtype=torch.int64, device=queries.device)
    for start in range(0, len(queries) if k else 0, chunk):
        scores = queries[start : start + chunk] @ gallery.T
        rows = torch.arange(len(scores), device=scores.device)
        if exclude_self:
            scores[rows, rows + start] = -torch.inf
        similarity[start : start + chunk], index[start : start + chunk] = scores.topk(k, dim=1)
    return similarity, index


_TIE = 1e-9
"""Similarities closer than this count as equal: far above float64's rounding, far below what tells vectors apart."""

_MARGIN = 8


def ranked_neighbours(features: torch.Tensor, k: int, chunk: int = 4096) -> npt.NDArray[np.int64]:
    """The ranking that k-reciprocal neighbours start from: each vector itself, then its ``k`` nearest others.

    Unlike :func:`top_k` it is the same whatever the chunk, device or thread count: similarities are compared in
    float64, and equal ones (duplicates, of which static scenes give many) are ordered by index.

    Args:
        features: (N, D) float32, rows of length 1.
        k: number of neighbours besides the vector itself; fewer where N is smaller.
        chunk: rows handled at once; memory is chunk × N floats.

    Returns:
        (N, min(k, N−1) + 1) int64.
    """
    n = len(features)
    k = min(k, n - 1)
    ranked = np.empty((n, k + 1), dtype=np.int64)
    ranked[:, 0] = np.arange(n)
    if k < 1:
        return ranked
    similarity, index = top_k(features, features, k + _MARGIN, chunk, exclude_self=True)
    for start in range(0, n, 256):
        rows = slice(start, start + 256)
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
