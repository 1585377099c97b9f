"""models.matching.jaccard and rerank against the published definition, dense and slow."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F

from models.matching.jaccard import jaccard_distance, shared_weight
from models.matching.rerank import k_reciprocal_rerank
from tests.bench.dense_jaccard import dense_jaccard as fast_dense_jaccard


def ranking(similarity: np.ndarray) -> np.ndarray:
    """All indices by falling similarity, each row's own first, equal ones by index."""
    ranked = []
    for i, row in enumerate(similarity):
        keys = np.round(row * 1e9)
        keys[i] = np.inf
        ranked.append(np.lexsort((np.arange(len(row)), -keys)))
    return np.array(ranked).reshape(similarity.shape)


def dense_jaccard(distance: np.ndarray, ranked: np.ndarray, k1: int, k2: int) -> np.ndarray:
    """Zhong et al. 2017, sections 3.2 to 3.4, in the words of the paper, one pair at a time."""
    n = len(distance)

    def nearest(i: int, k: int) -> list[int]:
        return ranked[i, : k + 1].tolist()  # i itself and k others

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in nearest(i, k) if i in nearest(j, k)}  # eq. 2

    half = int(np.around(k1 / 2))
    v = np.zeros((n, n))
    for i in range(n):
        r = reciprocal(i, k1)
        expanded = set(r)
        for j in r:
            other = reciprocal(j, half)
            if len(r & other) > 2 / 3 * len(other):  # eq. 3
                expanded |= other
        members = sorted(expanded)
        weights = np.exp(-distance[i, members])  # eq. 7
        v[i, members] = weights / weights.sum()
    if k2 > 1:
        v = np.array([v[ranked[i, :k2]].mean(axis=0) for i in range(n)])  # eq. 9
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            out[i, j] = 1 - np.minimum(v[i], v[j]).sum() / np.maximum(v[i], v[j]).sum()  # eq. 8
    return out


def dense_reference(features: torch.Tensor, k1: int, k2: int) -> np.ndarray:
    x = features.double().numpy()
    similarity = x @ x.T
    return dense_jaccard(np.maximum(2 - 2 * similarity, 0), ranking(similarity), k1, k2)


def clustered(n: int, d: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(max(1, n // 6), d, generator=generator)
    pick = torch.randint(len(centres), (n,), generator=generator)
    return F.normalize(centres[pick] + 0.5 * torch.randn(n, d, generator=generator), dim=1)


@pytest.mark.parametrize(
    ("n", "d", "k1", "k2"),
    [
        (1, 4, 15, 4),
        (2, 4, 15, 4),
        (7, 3, 15, 4),  # fewer vectors than neighbours
        (40, 2, 5, 1),
        (60, 8, 15, 4),
        (90, 16, 20, 6),
        (120, 64, 7, 3),
        (80, 5, 1, 2),
        (50, 6, 2, 1),
        (64, 32, 30, 10),
        (40, 8, 2, 6),  # more rows averaged than neighbours count
    ],
)
def test_equals_the_dense_definition(n: int, d: int, k1: int, k2: int) -> None:
    features = clustered(n, d)
    sparse = jaccard_distance(features, k1, k2)
    assert sparse.dtype == np.float32
    np.testing.assert_allclose(1 - sparse.toarray(), dense_reference(features, k1, k2), atol=1e-6)


@pytest.mark.parametrize("n", [20, 300, 700])
def test_the_rival_of_the_benchmark_computes_the_same(n: int) -> None:
    features = clustered(n, 32)
    np.testing.assert_allclose(
        1 - jaccard_distance(features, 15, 4).toarray(), fast_dense_jaccard(features.numpy(), 15, 4), atol=1e-5
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("copies", [2, 4, 25])
def test_equals_the_dense_definition_with_duplicates(copies: int, seed: int) -> None:
    order = torch.randperm(8 * copies, generator=torch.Generator().manual_seed(seed))
    features = clustered(8, 9, seed).repeat(copies, 1)[order]
    np.testing.assert_allclose(
        1 - jaccard_distance(features, 15, 4).toarray(), dense_reference(features, 15, 4), atol=1e-6
    )


def test_equals_the_dense_definition_with_many_exact_ties() -> None:
    # Corners of a hypercube: similarities take only five values.
    corners = torch.tensor([[a, b, c, d] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1) for d in (-1, 1)]) * 0.5
    features = corners.float().repeat(3, 1)
    for k1, k2 in ((3, 1), (6, 4), (15, 4)):
        np.testing.assert_allclose(
            1 - jaccard_distance(features, k1, k2).toarray(), dense_reference(features, k1, k2), atol=1e-6
        )


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, np.float32, np.float64])
def test_kinds_of_input(kind: object) -> None:
    features = clustered(30, 8)
    given = features.to(kind) if isinstance(kind, torch.dtype) else features.numpy().astype(kind)  # type: ignore[call-overload]
    np.testing.assert_allclose(
        jaccard_distance(given, 5, 2).toarray(), jaccard_distance(features, 5, 2).toarray(), atol=1e-6
    )


def test_is_symmetric_with_ones_on_the_diagonal() -> None:
    similarity = jaccard_distance(clustered(300, 16), 15, 4)
    assert (similarity != similarity.T).nnz == 0
    assert (similarity.diagonal() == 1).all()
    assert similarity.has_sorted_indices
    assert similarity.data.min() > 0
    assert similarity.data.max() <= 1


def test_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    features = clustered(200, 16)
    whole = jaccard_distance(features, 10, 4)
    monkeypatch.setattr("models.matching.jaccard._PAIRS_AT_ONCE", 50)
    monkeypatch.setattr("models.matching.jaccard._ROWS_AT_ONCE", 3)
    chunked = jaccard_distance(features, 10, 4, chunk=7)
    assert (whole.indptr == chunked.indptr).all()
    assert (whole.indices == chunked.indices).all()
    np.testing.assert_allclose(whole.data, chunked.data, atol=1e-7)


def test_memory_does_not_grow_with_the_square() -> None:
    # 12,000 vectors in tight groups. One array of N × N bytes would be 144 MB, of float64 1.15 GB.
    n = 12_000
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(n // 12), 12)
    weights = sp.csr_matrix(
        (
            generator.random(n * 6),
            (np.repeat(np.arange(n), 6), np.repeat(group * 12, 6) + generator.integers(0, 12, n * 6)),
        ),
        shape=(n, n),
    )
    weights = sp.csr_matrix(sp.diags(1 / np.asarray(weights.sum(axis=1)).ravel()) @ weights)
    tracemalloc.start()
    similarity = shared_weight(weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    dense = weights[:24].toarray()
    for i in range(24):
        for j in range(24):
            wanted = np.minimum(dense[i], dense[j]).sum() / np.maximum(dense[i], dense[j]).sum()
            assert similarity[i, j] == pytest.approx(wanted, abs=1e-6)


def test_empty_and_bad_input() -> None:
    assert jaccard_distance(torch.zeros(0, 8)).shape == (0, 0)
    with pytest.raises(ValueError, match=r"finite"):
        jaccard_distance(torch.tensor([[float("nan"), 1.0]]))
    with pytest.raises(ValueError, match=r"at least 1"):
        jaccard_distance(clustered(5, 3), 0, 1)
    with pytest.raises(ValueError, match=r"at least 1"):
        jaccard_distance(clustered(5, 3), 1, 0)


def dense_rerank(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int, lambda_: float) -> np.ndarray:
    both = np.concatenate((query, gallery)).astype(np.float64)
    similarity = both @ both.T
    distance = np.maximum(2 - 2 * similarity, 0)
    distance /= distance.max(axis=1, keepdims=True)
    jaccard = dense_jaccard(distance, ranking(similarity), k1, k2)
    count = len(query)
    return (1 - lambda_) * jaccard[:count, count:] + lambda_ * distance[:count, count:]


@pytest.mark.parametrize(
    ("q", "g", "d", "k1", "k2", "lambda_"),
    [(5, 60, 8, 20, 6, 0.3), (1, 30, 4, 10, 1, 0.0), (20, 20, 16, 5, 3, 1.0), (3, 5, 3, 20, 6, 0.3)],
)
def test_rerank_equals_the_dense_definition(q: int, g: int, d: int, k1: int, k2: int, lambda_: float) -> None:
    features = clustered(q + g, d, seed=5).numpy()
    got = k_reciprocal_rerank(features[:q], features[q:], k1, k2, lambda_)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, dense_rerank(features[:q], features[q:], k1, k2, lambda_), atol=1e-6)


def test_rerank_of_a_query_without_a_neighbour_in_the_gallery() -> None:
    query, gallery = torch.eye(9)[:1], clustered(40, 8)
    gallery = F.normalize(torch.cat((torch.zeros(40, 1), gallery), dim=1), dim=1)
    got = k_reciprocal_rerank(query, gallery, k1=5, k2=1)
    np.testing.assert_allclose(got, dense_rerank(query.numpy(), gallery.numpy(), 5, 1, 0.3), atol=1e-6)


def test_rerank_of_nothing_and_of_equals() -> None:
    features = clustered(6, 4)
    assert k_reciprocal_rerank(features[:0], features).shape == (0, 6)
    assert k_reciprocal_rerank(features, features[:0]).shape == (6, 0)
    same = k_reciprocal_rerank(features[:1], features[:1].repeat(4, 1))
    np.testing.assert_allclose(same, same[0, 0])


def test_rerank_refuses_bad_input() -> None:
    features = clustered(6, 4)
    with pytest.raises(ValueError, match=r"go together"):
        k_reciprocal_rerank(features, clustered(6, 5))
    with pytest.raises(ValueError, match=r"lambda_"):
        k_reciprocal_rerank(features, features, lambda_=1.5)
    with pytest.raises(ValueError, match=r"finite"):
        k_reciprocal_rerank(features, features * float("inf"))


@pytest.mark.gpu
def test_a_gpu_gives_the_same() -> None:
    """Neighbours are searched where the features are; the choice among them is made in float64 on both."""
    features = F.normalize(torch.randn(3000, 128, generator=torch.Generator().manual_seed(0)), dim=1)
    here, there = jaccard_distance(features, 15, 4), jaccard_distance(features.cuda(), 15, 4)
    assert abs(here - there).max() < 1e-6
