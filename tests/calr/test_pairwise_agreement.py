from itertools import combinations

import numpy as np
import pytest

from calr.pairwise_agreement import pairwise_agreement


@pytest.mark.parametrize("n", [1, 2, 15, 60])
def test_equals_counting_all_pairs(n: int) -> None:
    for seed in range(4):
        draw = np.random.default_rng(100 * n + seed)
        labels, person = draw.integers(-1, 4, n), draw.integers(-1, 5, n)
        said = {(i, j) for i, j in combinations(range(n), 2) if labels[i] == labels[j] >= 0}
        true = {(i, j) for i, j in combinations(range(n), 2) if person[i] == person[j] >= 0}
        got = pairwise_agreement(labels, person)
        assert got["precision"] == pytest.approx(len(said & true) / len(said) if said else 0)
        assert got["recall"] == pytest.approx(len(said & true) / len(true) if true else 0)
        total = got["precision"] + got["recall"]
        assert got["f"] == pytest.approx(2 * got["precision"] * got["recall"] / total if total else 0)
