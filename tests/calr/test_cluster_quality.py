from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from calr.cluster_quality import cluster_quality


@pytest.mark.parametrize("n", [1, 2, 15, 60])
def test_equals_counting_by_hand(n: int) -> None:
    for seed in range(4):
        draw = np.random.default_rng(100 * n + seed)
        labels, person = draw.integers(-1, 4, n), draw.integers(-1, 5, n)
        said = {(i, j) for i, j in combinations(range(n), 2) if labels[i] == labels[j] >= 0}
        true = {(i, j) for i, j in combinations(range(n), 2) if person[i] == person[j] >= 0}
        got = cluster_quality(labels, person)
        assert got["precision"] == pytest.approx(len(said & true) / len(said) if said else 0)
        assert got["recall"] == pytest.approx(len(said & true) / len(true) if true else 0)
        total = got["precision"] + got["recall"]
        assert got["f"] == pytest.approx(2 * got["precision"] * got["recall"] / total if total else 0)
        named = [p if p >= 0 else 100 + i for i, p in enumerate(person.tolist())]
        clusters_of: dict[int, set[int]] = {}
        for cluster, somebody in zip(labels.tolist(), named, strict=True):
            if cluster >= 0:
                clusters_of.setdefault(somebody, set()).add(cluster)
        expected = np.mean([len(found) for found in clusters_of.values()]) if clusters_of else 0
        assert got["expansion"] == pytest.approx(expected)
        kept = labels >= 0
        if kept.any():
            assert got["nmi"] == pytest.approx(normalized_mutual_info_score(np.asarray(named)[kept], labels[kept]))


def test_perfect_and_empty() -> None:
    person = np.asarray([0, 0, 1, 1, 2])
    assert cluster_quality(person, person) == {"precision": 1, "recall": 1, "f": 1, "expansion": 1, "nmi": 1}
    none = cluster_quality(np.full(5, -1), person)
    assert none == {"precision": 0, "recall": 0, "f": 0, "expansion": 0, "nmi": 0}
