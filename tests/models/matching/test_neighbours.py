"""models.matching.neighbours against a full sort."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.matching.neighbours import nearest_others, ranked_neighbours, top_k


def unit(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("chunk", [1, 7, 4096])
@pytest.mark.parametrize(("n", "m", "d", "k"), [(5, 40, 8, 3), (30, 12, 3, 12), (1, 1, 2, 1)])
def test_top_k_is_a_full_sort(n: int, m: int, d: int, k: int, chunk: int) -> None:
    queries, gallery = unit(n, d, 1), unit(m, d, 2)
    similarity, index = top_k(queries, gallery, k, chunk)
    full = queries @ gallery.T
    wanted, order = full.sort(dim=1, descending=True)
    assert similarity.dtype == torch.float32
    assert index.dtype == torch.int64
    torch.testing.assert_close(similarity, wanted[:, :k])
    torch.testing.assert_close(index, order[:, :k])


def test_arrays_give_arrays() -> None:
    vectors = unit(20, 4).numpy()
    similarity, index = top_k(vectors, vectors, 1)
    assert isinstance(similarity, np.ndarray)
    assert similarity.dtype == np.float32
    assert index[:, 0].tolist() == list(range(20))


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize(("n", "k"), [(2, 1), (10, 9), (10, 4), (31, 5), (23, 22)])
def test_nearest_others_is_a_full_sort_without_oneself(n: int, k: int, chunk: int) -> None:
    vectors = unit(n, 4)
    similarity, index = nearest_others(vectors, k, chunk)
    full = (vectors @ vectors.T).fill_diagonal_(-2)
    wanted, order = full.sort(dim=1, descending=True)
    torch.testing.assert_close(similarity, wanted[:, :k])
    torch.testing.assert_close(index, order[:, :k])
    by_array = nearest_others(vectors.numpy(), k, chunk)
    np.testing.assert_array_equal(by_array[1], index.numpy())


def test_nearest_others_of_twins_and_of_one() -> None:
    similarity, index = nearest_others(unit(1, 4).repeat(6, 1), 5, chunk=2)
    assert all(sorted(row) == [j for j in range(6) if j != i] for i, row in enumerate(index.tolist()))
    torch.testing.assert_close(similarity, torch.ones(6, 5))
    assert nearest_others(unit(1, 4), 5)[1].shape == (1, 0) and nearest_others(unit(0, 4), 5)[1].shape == (0, 0)


def test_fewer_than_k() -> None:
    assert top_k(unit(3, 4), unit(2, 4), 5)[1].shape == (3, 2)
    assert top_k(unit(0, 4), unit(2, 4), 2)[1].shape == (0, 2)
    assert top_k(unit(2, 4), unit(0, 4), 2)[1].shape == (2, 0)


def test_shapes_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"do not go together"):
        top_k(unit(3, 4), unit(3, 5), 1)
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        nearest_others(unit(3, 4)[0], 1)
    with pytest.raises(ValueError, match=r"at least 1"):
        top_k(unit(3, 4), unit(4, 4), 0)
    with pytest.raises(ValueError, match=r"at least 1"):
        nearest_others(unit(3, 4), 0)


def plain_ranking(features: torch.Tensor, k: int) -> np.ndarray:
    """Self first, then by similarity, equal ones by index: a Python sort per row."""
    x = features.double().numpy()
    ranked = []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        others.sort(key=lambda j: (-round(float(x[i] @ x[j]) * 1e9), j))
        ranked.append([i, *others[:k]])
    return np.array(ranked)


@pytest.mark.parametrize(("n", "d", "k"), [(1, 3, 5), (2, 3, 5), (40, 4, 7), (120, 16, 15), (60, 2, 59)])
def test_ranked_neighbours_is_a_plain_sort(n: int, d: int, k: int) -> None:
    features = unit(n, d)
    np.testing.assert_array_equal(ranked_neighbours(features, k), plain_ranking(features, k))


@pytest.mark.parametrize("copies", [2, 5, 30])
def test_duplicates_are_ordered_by_index(copies: int) -> None:
    features = unit(12, 7).repeat(copies, 1)[torch.randperm(12 * copies, generator=torch.Generator().manual_seed(3))]
    for k in (3, 10, 17):
        ranked = ranked_neighbours(features, k)
        np.testing.assert_array_equal(ranked, plain_ranking(features, k))
        np.testing.assert_array_equal(ranked, ranked_neighbours(features, k, chunk=5))


def test_all_the_same() -> None:
    ranked = ranked_neighbours(unit(1, 5).repeat(50, 1), 4)
    assert ranked[0].tolist() == [0, 1, 2, 3, 4]
    assert ranked[40].tolist() == [40, 0, 1, 2, 3]
