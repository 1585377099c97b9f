import math
from collections import Counter

import numpy as np
import pytest

from calr.camera_entropy import camera_entropy, entropy_weights


@pytest.mark.parametrize(("crops", "clusters", "cameras"), [(1, 1, 1), (10, 3, 2), (200, 12, 6)])
def test_entropy_equals_the_plain_sum(crops: int, clusters: int, cameras: int) -> None:
    draw = np.random.default_rng(crops)
    labels = np.concatenate([np.arange(clusters), draw.integers(-1, clusters, crops)])
    camera = draw.integers(0, cameras, len(labels))
    for cluster, value in enumerate(camera_entropy(labels, camera)):
        counts = Counter(camera[labels == cluster].tolist())
        total = sum(counts.values())
        assert value == pytest.approx(-sum(n / total * math.log(n / total) for n in counts.values()))


def test_one_camera_clusters_keep_training() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    weights = entropy_weights(labels, np.array([0, 0, 0, 1, 1]))
    assert weights[0] == weights[2] > 0
    assert weights[1] / weights[0] == pytest.approx(1 + math.log(1 + math.log(2)))
    assert weights.mean() == pytest.approx(1)


def test_nothing_clustered_weighs_nothing() -> None:
    assert len(entropy_weights(np.array([-1, -1]), np.array([0, 1]))) == 0
