import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from calr.silhouette import silhouette


def _features(seed: int, n: int) -> np.ndarray:
    features = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.mark.parametrize("chunk", [7, 2048])
@pytest.mark.parametrize(("n", "clusters"), [(4, 2), (30, 4), (200, 60)])
def test_equals_scikit_learn(n: int, clusters: int, chunk: int) -> None:
    features = _features(n, n)
    labels = np.append(np.random.default_rng(n).integers(0, clusters, n - 2), [0, 1])
    wanted = silhouette_score(features.astype(np.float64), labels, metric="cosine")
    assert silhouette(features, labels, chunk=chunk) == pytest.approx(wanted, abs=1e-5)


def test_scopes_are_judged_apart() -> None:
    features = _features(1, 60)
    scope = np.repeat([0, 1], 30)
    labels = np.random.default_rng(2).integers(0, 4, 60) + 10 * scope
    parts = [silhouette_score(features[scope == s], labels[scope == s], metric="cosine") for s in (0, 1)]
    assert silhouette(features, labels, scope) == pytest.approx(np.mean(parts), abs=1e-5)


def test_unlabelled_points_are_left_out_and_nothing_gives_zero() -> None:
    features = _features(3, 20)
    labels = np.repeat([0, 1], 10)
    some = np.where(np.arange(20) % 5 == 0, -1, labels)
    kept = some >= 0
    wanted = silhouette_score(features[kept], some[kept], metric="cosine")
    assert silhouette(features, some) == pytest.approx(wanted, abs=1e-5)
    assert silhouette(features, np.full(20, -1)) == 0.0
    assert silhouette(features, np.zeros(20, dtype=np.int64)) == 0.0
