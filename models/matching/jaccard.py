"""The k-reciprocal Jaccard distance, sparse: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal
Encoding", CVPR 2017 (arXiv 1701.08398).

Two vectors are alike when they have the same neighbours. Almost all pairs share none, so the result is a sparse matrix
of **similarity** (1 − distance): what is not stored has distance 1. Nothing here is N × N.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from models.matching.neighbours import ranked_neighbours


def jaccard_distance(
    features: torch.Tensor | npt.NDArray[np.floating], k1: int = 15, k2: int = 4, chunk: int = 2048
) -> sp.csr_matrix:
    """The Jaccard similarity of all pairs that have any.

    1. k-reciprocal neighbours R(i, k1): among the k1 nearest of each other (eq. 2), with i itself.
    2. Expansion: R(j, k1/2) of each j in R(i, k1) joins, where more than two thirds of it lies in R(i, k1) (eq. 3).
    3. Encoding V_ij = exp(−d_ij) for j in the set, else 0, with the squared Euclidean d = 2 − 2·cos (eq. 7), rows
       divided by their sum as in the authors' code.
    4. Local query expansion: V_i becomes the mean over i and its k2 − 1 nearest (eq. 9); k2 = 1 leaves it out.
    5. Jaccard similarity Σ min(V_i, V_j) / Σ max(V_i, V_j) (eq. 8).

    Args:
        features: (N, D), rows of length 1; a tensor may be on any device, neighbours are searched there.
        k1: neighbours that count.
        k2: rows averaged in step 4.
        chunk: vectors of the neighbour search at once; memory is chunk × chunk floats.

    Returns:
        (N, N) CSR float32, symmetric, sorted columns, ones on the diagonal: **1 − distance** where that is not 0.

    Raises:
        ValueError: features that are not (N, D) and finite, k1 < 1 or k2 < 1.
    """
    tensor = torch.as_tensor(features).float()
    if tensor.ndim != 2 or not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"features must be finite and (N, D), got shape {tuple(tensor.shape)}")
    if k1 < 1 or k2 < 1:
        raise ValueError(f"k1 and k2 must be at least 1, got {k1} and {k2}")
    if len(tensor) == 0:
        return sp.csr_matrix(np.empty((0, 0), dtype=np.float32))
    ranked = ranked_neighbours(tensor, max(k1, k2 - 1), chunk)
    encoding = neighbour_encoding(tensor, ranked, k1, k2)
    return shared_weight(encoding)


def neighbour_encoding(
    features: torch.Tensor,
    ranked: npt.NDArray[np.int64],
    k1: int,
    k2: int,
    scale: npt.NDArray[np.float64] | None = None,
) -> sp.csr_matrix:
    """Steps 1 to 4 of :func:`jaccard_distance`.

    Args:
        features: (N, D) float32, rows of length 1.
        ranked: (N, ≥ k1 + 1) each vector itself and its nearest others, best first.
        k1, k2: as there.
        scale: (N,) what each row's distances are divided by before the exponential; None: nothing.

    Returns:
        V, (N, N) CSR float64, rows of sum 1.
    """
    reciprocal = _reciprocal(ranked[:, : k1 + 1])
    # Half of k1 is rounded as in the authors' code: to the nearest, .5 to the even one.
    half = _reciprocal(ranked[:, : round(k1 / 2) + 1])
    common = (reciprocal @ half.T).multiply(reciprocal).tocsr()
    half_size = np.diff(half.indptr)
    enough = 3 * common.data > 2 * half_size[common.indices]
    trusted = sp.csr_matrix((enough.astype(np.int32), common.indices, common.indptr), shape=common.shape)
    expanded = (reciprocal + trusted @ half).tocsr()
    expanded.eliminate_zeros()
    expanded.sort_indices()

    rows = np.repeat(np.arange(len(ranked)), np.diff(expanded.indptr))
    distance = _pair_distances(features, rows, expanded.indices)
    if scale is not None:
        distance /= scale[rows]
    weights = np.exp(-distance)
    weights /= np.bincount(rows, weights, minlength=len(ranked))[rows]
    encoding = sp.csr_matrix((weights, expanded.indices, expanded.indptr), shape=expanded.shape)
    if k2 > 1:
        encoding = (_membership(ranked[:, :k2]) @ encoding).tocsr() / min(k2, ranked.shape[1])
    return encoding


def shared_weight(encoding: sp.csr_matrix) -> sp.csr_matrix:
    """Step 5 of :func:`jaccard_distance` for all pairs of rows of V: (N, N) CSR float32, symmetric, ones on the
    diagonal."""
    n = encoding.shape[0]
    encoding.sort_indices()
    by_column = encoding.tocsc()
    by_column.sort_indices()
    # Where entry (i, k) lies in the column-wise order; from there on column k lists the rows j ≥ i. The lower triangle
    # then follows by symmetry.
    place = sp.csr_matrix((np.arange(encoding.nnz), encoding.indices, encoding.indptr), shape=encoding.shape)
    position = np.empty(encoding.nnz, dtype=np.int64)
    position[place.tocsc().data] = np.arange(encoding.nnz)
    length = by_column.indptr[encoding.indices + 1] - position
    upper = sp.triu(_similarity(_sum_of_minima(encoding, by_column, position, length)), k=1, format="csr")
    similarity = (upper + upper.T + sp.identity(n, format="csr")).astype(np.float32).tocsr()
    similarity.sort_indices()
    return sp.csr_matrix(similarity)


def shared_weight_between(left: sp.csr_matrix, right: sp.csr_matrix) -> sp.csr_matrix:
    """Step 5 of :func:`jaccard_distance` for each row of ``left`` (Q, N) with each of ``right`` (G, N): (Q, G) CSR
    float64."""
    by_column = right.tocsc()
    position = by_column.indptr[left.indices].astype(np.int64)
    return _similarity(_sum_of_minima(left, by_column, position, by_column.indptr[left.indices + 1] - position))


def _similarity(minima: sp.csr_matrix) -> sp.csr_matrix:
    # Rows of V sum to 1, so Σ max = 2 − Σ min.
    minima.data /= 2.0 - minima.data
    return minima


_PAIRS_AT_ONCE = 4_000_000
_ROWS_AT_ONCE = 256


def _sum_of_minima(
    rows: sp.csr_matrix, columns: sp.csc_matrix, position: npt.NDArray[np.int64], length: npt.NDArray[np.int64]
) -> sp.csr_matrix:
    """Σ_k min(rows_ik, columns_jk). Entry e of ``rows`` meets the ``length[e]`` entries of its column that start at
    ``position[e]``; chunked so that memory does not grow with the number of rows."""
    count = rows.shape[0]
    parts: list[sp.csr_matrix] = []
    work = np.concatenate(([0], np.cumsum(length)))[rows.indptr]
    start = 0
    while start < count:
        stop = int(np.searchsorted(work, work[start] + _PAIRS_AT_ONCE, side="right")) - 1
        stop = min(max(stop, start + 1), start + _ROWS_AT_ONCE, count)
        parts.append(_sum_of_minima_in(rows, columns, position, length, start, stop))
        start = stop
    return sp.csr_matrix(sp.vstack(parts, format="csr"))


def _sum_of_minima_in(
    rows: sp.csr_matrix,
    columns: sp.csc_matrix,
    position: npt.NDArray[np.int64],
    length: npt.NDArray[np.int64],
    start: int,
    stop: int,
) -> sp.csr_matrix:
    entries = slice(rows.indptr[start], rows.indptr[stop])
    counts = length[entries]
    own_row = np.repeat(np.arange(stop - start), np.diff(rows.indptr[start : stop + 1]))
    ends = np.cumsum(counts)
    partner = np.arange(ends[-1]) + np.repeat(position[entries] - (ends - counts), counts)
    smaller = np.minimum(np.repeat(rows.data[entries], counts), columns.data[partner])
    other = columns.indices[partner]
    # Only the partners that occur get a place in the dense buffer.
    seen = np.zeros(columns.shape[0], dtype=bool)
    seen[other] = True
    partners = np.flatnonzero(seen)
    place = np.empty(columns.shape[0], dtype=np.int64)
    place[partners] = np.arange(len(partners))
    flat = np.repeat(own_row, counts) * len(partners) + place[other]
    sums = np.bincount(flat, smaller).astype(np.float64, copy=False)  # of nothing, bincount makes integers
    hit = np.flatnonzero(sums > 0)  # of booleans: several times as fast as of numbers
    row, place_hit = np.divmod(hit, max(len(partners), 1))
    bounds = np.searchsorted(row, np.arange(stop - start + 1))
    return sp.csr_matrix((sums[hit], partners[place_hit], bounds), shape=(stop - start, columns.shape[0]))


def _membership(ranked: npt.NDArray[np.int64]) -> sp.csr_matrix:
    n, k = ranked.shape
    indptr = np.arange(0, n * k + 1, k)
    return sp.csr_matrix((np.ones(n * k, dtype=np.int32), ranked.ravel(), indptr), shape=(n, n))


def _reciprocal(ranked: npt.NDArray[np.int64]) -> sp.csr_matrix:
    member = _membership(ranked)
    return sp.csr_matrix(member.multiply(member.T))


def _pair_distances(
    features: torch.Tensor, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """2 − 2·cos of listed pairs; never below 0, which rounding would otherwise give for duplicates."""
    distance = np.empty(len(rows), dtype=np.float64)
    # Few enough pairs to stay in the processor's cache: four times as fast as sixteen times as many.
    step = max(1, 1_000_000 // max(features.shape[1], 1))
    for start in range(0, len(rows), step):
        pairs = slice(start, start + step)
        left = features[torch.as_tensor(rows[pairs], device=features.device)].double()
        right = features[torch.as_tensor(columns[pairs].astype(np.int64), device=features.device)].double()
        distance[pairs] = (2.0 - 2.0 * (left * right).sum(dim=1)).clamp(min=0.0).cpu().numpy()
    return distance
