import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from calr.cluster_splitting import split_clusters
from calr.infomap_clusters import renumber


def _features(seed: int, nodes: int) -> np.ndarray:
    features = np.abs(np.random.default_rng(seed).normal(size=(nodes, 6))).astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.mark.parametrize("cut", [0.1, 0.3, 0.6])
@pytest.mark.parametrize(("nodes", "clusters"), [(3, 1), (30, 4), (90, 11)])
def test_equals_scipys_average_linkage_inside_each_cluster(nodes: int, clusters: int, cut: float) -> None:
    features = _features(nodes, nodes)
    labels = np.random.default_rng(nodes).integers(-1, clusters, nodes)
    wanted = np.full(nodes, -1)
    for cluster in range(clusters):
        members = np.flatnonzero(labels == cluster)
        if len(members) == 0:
            continue
        parts = np.zeros(len(members), dtype=np.int64)
        if len(members) > 1:
            distance = 1 - np.clip((features[members] @ features[members].T).astype(np.float64), 0, 1)
            tree = linkage(squareform(distance, checks=False), "average")
            parts = fcluster(tree, cut, "distance")
        wanted[members] = cluster * 1000 + parts
    assert split_clusters(labels, features, cut).tolist() == renumber(wanted).tolist()


def test_a_chain_of_two_people_is_cut_and_cannot_links_always_are() -> None:
    angle = np.deg2rad([0, 10, 20, 80, 90, 100])
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    together = np.zeros(6, dtype=np.int64)
    assert split_clusters(together, features, 0.5).tolist() == [0, 0, 0, 1, 1, 1]
    apart = split_clusters(together, features, 0.5, np.array([[0, 1]]))
    assert apart[0] != apart[1] and apart[3:].tolist() == [apart[3]] * 3


def test_nothing_to_split_stays() -> None:
    features = _features(1, 3)
    for labels in ([-1, -1, -1], [0, 1, 2]):
        assert split_clusters(np.array(labels), features, 0.5).tolist() == labels
