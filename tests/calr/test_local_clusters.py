"""Average linkage against scipy and against a plain constrained loop; overlap in time against all pairs."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from calr.infomap_clusters import renumber
from calr.local_clusters import average_linkage, local_clusters, overlapping_nodes


def _random_similarity(seed: int, n: int, density: float) -> NDArray[np.float64]:
    draw = np.random.default_rng(seed)
    upper = np.triu(draw.random((n, n)) * (draw.random((n, n)) < density), 1)
    return upper + upper.T + np.eye(n)


def _plain(similarity, sizes, cut, cannot):
    clusters = [[i] for i in range(len(sizes))]
    while True:
        best = None
        for a in range(len(clusters)):
            for b in range(a + 1, len(clusters)):
                pairs = [(i, j) for i in clusters[a] for j in clusters[b]]
                if any((i, j) in cannot or (j, i) in cannot for i, j in pairs):
                    continue
                weight = sum(sizes[i] for i in clusters[a]) * sum(sizes[j] for j in clusters[b])
                distance = 1 - sum(similarity[i, j] for i, j in pairs) / weight
                if distance <= cut and (best is None or distance < best[0]):
                    best = (distance, a, b)
        if best is None:
            labels = np.zeros(len(sizes), dtype=np.int64)
            for number, members in enumerate(clusters):
                labels[members] = number
            return renumber(labels).tolist()
        _, a, b = best
        clusters[a] += clusters.pop(b)


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.8])
@pytest.mark.parametrize(("n", "density"), [(2, 1.0), (10, 1.0), (40, 0.3), (90, 0.9)])
def test_agrees_with_scipy_on_single_points(n: int, density: float, cut: float) -> None:
    similarity = _random_similarity(n, n, density)
    tree = linkage(squareform(1 - similarity, checks=False), "average")
    wanted = renumber(fcluster(tree, cut, "distance").astype(np.int64))
    got = average_linkage(sparse.csr_array(similarity), np.ones(n, dtype=np.int64), cut)
    assert got.tolist() == wanted.tolist()


@pytest.mark.parametrize("cannot", [set(), {(0, 1), (2, 5), (3, 4)}])
@pytest.mark.parametrize("cut", [0.4, 0.7])
def test_agrees_with_the_plain_loop_on_groups_with_cannot_links(cut: float, cannot: set[tuple[int, int]]) -> None:
    for seed in range(6):
        draw = np.random.default_rng(seed)
        n, items = 40, 12
        similarity = _random_similarity(seed, n, 0.8)
        item = np.concatenate([np.arange(items), draw.integers(0, items, n - items)])
        member = np.eye(items)[item].T
        summed = member @ similarity @ member.T
        sizes = np.bincount(item)
        pairs = np.array(sorted(cannot), dtype=np.int64).reshape(-1, 2)
        got = average_linkage(sparse.csr_array(summed), sizes, cut, pairs)
        assert got.tolist() == _plain(summed, sizes, cut, cannot)
        assert all(got[a] != got[b] for a, b in cannot)


def test_cannot_links_are_inherited_by_merged_clusters() -> None:
    # 0-1 and 2-3 merge first; then 1-2 would join all, but 0 and 3 were seen at the same time.
    similarity = np.array([[0, 0.95, 0.8, 0.8], [0.95, 0, 0.9, 0.8], [0.8, 0.9, 0, 0.95], [0.8, 0.8, 0.95, 0]])
    ones = np.ones(4, dtype=np.int64)
    assert average_linkage(sparse.csr_array(similarity), ones, 0.3).tolist() == [0, 0, 0, 0]
    assert average_linkage(sparse.csr_array(similarity), ones, 0.3, np.array([[0, 3]])).tolist() == [0, 0, 1, 1]


def _people(seed: int, people: int, tracklets: int, crops: int) -> tuple[NDArray[np.float32], NDArray, NDArray]:
    draw = np.random.default_rng(seed)
    centre = draw.normal(size=(people, 16))
    person = np.repeat(np.arange(people), tracklets * crops)
    node = np.repeat(np.arange(people * tracklets), crops)
    features = centre[person] + 0.2 * draw.normal(size=(len(person), 16))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), node, person


def test_tracklets_of_one_person_are_joined_and_stay_whole() -> None:
    features, node, person = _people(0, 6, 2, 5)
    labels = local_clusters(features, node, np.zeros(12, dtype=np.int64), 0.5, k1=9, k2=3)
    assert labels[node].tolist() == person.tolist()


def test_cameras_are_never_mixed_and_constraints_hold_in_each() -> None:
    features, node, _ = _people(1, 6, 2, 5)
    camera = np.tile([0, 1], 6)  # one tracklet of each person per camera
    labels = local_clusters(features, node, camera, 0.5)
    assert not set(labels[camera == 0]) & set(labels[camera == 1])
    same = np.zeros(12, dtype=np.int64)
    cannot = np.array([[0, 1], [4, 5]])
    apart = local_clusters(features, node, same, 0.5, k1=9, k2=3, cannot_link=cannot)
    assert apart[0] != apart[1] and apart[4] != apart[5] and apart[2] == apart[3]


def test_single_crops_are_nodes_too() -> None:
    features, _, person = _people(2, 5, 1, 8)
    labels = local_clusters(features, np.arange(40), np.zeros(40, dtype=np.int64), 0.6, k1=7, k2=3)
    assert labels.tolist() == person.tolist()


@pytest.mark.parametrize("nodes", [1, 2, 25, 60])
def test_overlaps_equal_all_pairs(nodes: int) -> None:
    draw = np.random.default_rng(nodes)
    camera = draw.integers(0, 2, nodes)
    clock = camera * 2 + draw.integers(0, 2, nodes)
    clock[draw.random(nodes) < 0.1] = -1
    start = draw.integers(0, 20, nodes).astype(float)
    end = start + draw.integers(0, 6, nodes)
    wanted = [
        [a, b]
        for a in range(nodes)
        for b in range(a + 1, nodes)
        if camera[a] == camera[b] and clock[a] == clock[b] >= 0 and start[a] < end[b] and start[b] < end[a]
    ]
    assert overlapping_nodes(camera, clock, start, end).tolist() == wanted


def test_a_cut_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="max_distance"):
        average_linkage(sparse.csr_array(np.eye(2)), np.ones(2, dtype=np.int64), 1.0)
