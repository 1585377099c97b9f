from collections import Counter

import numpy as np
import pytest

from calr.sampler import BalancedBatches


def _site(seed: int, crops: int, clusters: int, cameras: int):
    draw = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(clusters), draw.integers(-1, clusters, crops - clusters)])
    camera = draw.integers(0, cameras, crops)
    return labels, camera, np.arange(crops) // 3


@pytest.mark.parametrize(
    ("crops", "clusters", "p", "k"), [(10, 1, 4, 4), (50, 3, 8, 4), (200, 20, 8, 4), (90, 7, 7, 5)]
)
def test_every_batch_is_p_clusters_times_k_crops(crops: int, clusters: int, p: int, k: int) -> None:
    labels, camera, node = _site(crops, crops, clusters, 3)
    batches = list(BalancedBatches(labels, camera, node, p, k, batches=12, seed=5))
    assert len(batches) == 12
    here = min(p, clusters)
    each = p * k // here
    for batch in batches:
        assert len(batch) == here * each
        assert set(Counter(labels[batch].tolist()).values()) == {each}
        assert (labels[batch] >= 0).all()
        assert (labels[batch].reshape(here, each) == labels[batch].reshape(here, each)[:, :1]).all()


def test_clusters_come_equally_often() -> None:
    labels, camera, node = _site(1, 300, 20, 4)
    drawn = Counter[int]()
    for batch in BalancedBatches(labels, camera, node, 8, 4, batches=50, seed=1):
        drawn.update(np.unique(labels[batch]).tolist())
    assert set(drawn) == set(range(20))
    assert max(drawn.values()) - min(drawn.values()) <= 1


def test_cameras_take_turns_however_uneven_they_are() -> None:
    # 96 crops by camera 0, 4 by camera 1, one person, filled up by a second person.
    labels = np.array([0] * 100 + [1] * 10)
    camera = np.array([0] * 96 + [1] * 4 + [0] * 10)
    drawn = Counter[int]()
    for batch in BalancedBatches(labels, camera, np.arange(110), 2, 4, batches=100, seed=2):
        mine = batch[labels[batch] == 0]
        drawn.update(camera[mine].tolist())
        assert set(camera[mine].tolist()) == {0, 1}
    assert drawn[0] == drawn[1]


def test_tracklets_of_a_camera_take_turns() -> None:
    labels = np.zeros(30, dtype=np.int64)
    node = np.array([0] * 27 + [1] * 3)
    drawn = Counter[int]()
    for batch in BalancedBatches(labels, np.zeros(30, dtype=np.int64), node, 1, 6, batches=20, seed=3):
        drawn.update(node[batch].tolist())
    assert drawn[0] == drawn[1]


def test_all_crops_of_a_cluster_are_used_before_one_repeats() -> None:
    labels = np.zeros(24, dtype=np.int64)
    batches = list(BalancedBatches(labels, np.arange(24) % 2, np.arange(24) // 4, 1, 8, batches=3, seed=4))
    assert sorted(np.concatenate(batches).tolist()) == list(range(24))


def test_same_seed_same_batches_other_seed_others() -> None:
    labels, camera, node = _site(5, 120, 9, 3)

    def draw(seed: int) -> list[list[int]]:
        return [b.tolist() for b in BalancedBatches(labels, camera, node, 4, 4, batches=6, seed=seed)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="no crop is in a cluster"):
        BalancedBatches(np.array([-1, -1]), np.zeros(2, int), np.arange(2), 4, 4, 1, 1)
