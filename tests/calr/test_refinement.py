"""Refinement against a reference that follows the paper's sentences one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calr.neighbour_graph import Links
from calr.refinement import camera_pivots, discard_share, node_scores, published_pivots, refine


def _random_case(
    seed: int, nodes: int, clusters: int, cameras: int
) -> tuple[Links, NDArray, NDArray, NDArray, NDArray]:
    draw = np.random.default_rng(seed)
    adjacency = draw.random((nodes, nodes)) < 0.3
    np.fill_diagonal(adjacency, False)
    source, target = np.nonzero(adjacency)
    links = Links(source, target, draw.uniform(0.3, 1.0, len(source)).astype(np.float32), nodes)
    labels = draw.integers(-1, clusters, nodes)
    camera = draw.integers(0, cameras, nodes)
    local = camera * 100 + draw.integers(0, 2, nodes)
    features = draw.normal(size=(nodes, 5)).astype(np.float32)
    return links, labels, camera, local, features / np.linalg.norm(features, axis=1, keepdims=True)


def _scores_plain(links: Links) -> list[float]:
    distances = [1 - float(s) for s in links.similarity]
    mean = sum(distances) / len(distances) if distances else 0.0
    scores = [0.0] * links.nodes
    for i, d in zip(links.source, distances, strict=True):
        scores[i] += 1 / (d + mean)
    return scores


def _camera_pivots_plain(labels, camera, scores):
    mean = sum(scores) / len(scores)
    pivots = {}
    for i in range(len(labels)):
        place = (labels[i], camera[i])
        better = place not in pivots or scores[i] > scores[pivots[place]]
        if labels[i] >= 0 and scores[i] > mean and better:
            pivots[place] = i
    return pivots


def _published_pivots_plain(labels, camera, scores):
    mean = sum(scores) / len(scores)
    pivots = {}
    for cluster in sorted(set(labels) - {-1}):
        informed = [i for i in range(len(labels)) if labels[i] == cluster and scores[i] > mean]
        if informed:
            pivots[cluster, camera[informed[-1]]] = informed[-1]
    return pivots


def _refine_plain(pivots, labels, local, camera, features, share):
    doubted = [
        (float(features[i] @ features[pivots[labels[i], camera[i]]]), i)
        for i in range(len(labels))
        if (labels[i], camera[i]) in pivots and local[i] != local[pivots[labels[i], camera[i]]]
    ]
    gone = [i for _, i in sorted(doubted)[: int(np.ceil(share * len(doubted) - 1e-9))]]
    out = list(labels)
    for i in gone:
        out[i] = -1
    return out, sorted(i for _, i in doubted)


@pytest.mark.parametrize("kind", ["camera", "published"])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("nodes", "clusters", "cameras"), [(1, 1, 1), (6, 2, 2), (30, 4, 3), (80, 7, 5)])
def test_refine_does_what_the_plain_reference_does(
    nodes: int, clusters: int, cameras: int, share: float, kind: str
) -> None:
    for seed in range(5):
        links, labels, camera, local, features = _random_case(seed, nodes, clusters, cameras)
        scores = node_scores(links)
        np.testing.assert_allclose(scores, _scores_plain(links), rtol=1e-6)
        if kind == "camera":
            pivots = camera_pivots(labels, camera, scores)
            expected = _camera_pivots_plain(labels, camera, scores)
        else:
            pivots = published_pivots(labels, scores)
            expected = _published_pivots_plain(labels, camera, scores)
        assert sorted(pivots.tolist()) == sorted(expected.values())
        got = refine(labels, local, camera, pivots, features, share)
        wanted, doubted = _refine_plain(expected, labels, local, camera, features, share)
        assert got.labels.tolist() == wanted
        assert np.flatnonzero(got.doubted).tolist() == doubted


def test_the_best_information_node_is_the_pivot_not_the_last() -> None:
    scores = np.array([1.0, 9.0, 5.0, 5.0, 0.1, 0.1, 0.1])
    pivots = camera_pivots(np.zeros(7, dtype=np.int64), np.array([0, 0, 0, 1, 1, 2, 2]), scores)
    assert pivots.tolist() == [1, 3]  # camera 2 has no information node


def test_a_merge_of_two_people_is_undone_by_the_local_clusters() -> None:
    # One global cluster; camera 0 saw person A (nodes 0, 1) and person B (node 2), camera 1 saw A (node 3).
    links = Links(
        np.array([0, 1, 0, 1, 2, 3, 3]), np.array([1, 0, 3, 3, 0, 0, 1]), np.full(7, 0.8, dtype=np.float32), 4
    )
    labels, camera = np.zeros(4, dtype=np.int64), np.array([0, 0, 0, 1])
    pivots = camera_pivots(labels, camera, node_scores(links))
    refined = refine(labels, np.array([0, 0, 1, 2]), camera, pivots, np.eye(4, dtype=np.float32))
    assert refined.labels.tolist() == [0, 0, -1, 0]


def test_discard_share_grows_to_one_and_stays() -> None:
    shares = [discard_share(e, 0.5, 4) for e in range(8)]
    assert shares == [0.5, 0.625, 0.75, 0.875, 1.0, 1.0, 1.0, 1.0]
    assert discard_share(0, 0.2, 0) == 1.0


def test_no_links_no_pivots() -> None:
    empty = np.zeros(0, dtype=np.int64)
    scores = node_scores(Links(empty, empty, np.zeros(0, dtype=np.float32), 3))
    labels = np.array([0, 0, -1])
    camera = np.zeros(3, dtype=np.int64)
    for pivots in (camera_pivots(labels, camera, scores), published_pivots(labels, scores)):
        assert len(pivots) == 0
        refined = refine(labels, np.array([0, 1, 2]), camera, pivots, np.eye(3, dtype=np.float32))
        assert refined.labels.tolist() == labels.tolist()


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 4), st.floats(0, 1), st.booleans(), st.integers(0, 2**31))
def test_refinement_never_merges_and_never_moves(
    nodes: int, clusters: int, cameras: int, share: float, published: bool, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    labels, camera = draw.integers(-1, clusters, nodes), draw.integers(0, cameras, nodes)
    local = draw.integers(0, 5, nodes) * cameras + camera
    features = draw.normal(size=(nodes, 4)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    scores = draw.random(nodes).round(1)
    pivots = published_pivots(labels, scores) if published else camera_pivots(labels, camera, scores)
    refined = refine(labels, local, camera, pivots, features, share)
    kept = refined.labels >= 0
    np.testing.assert_array_equal(refined.labels[kept], labels[kept])
    np.testing.assert_array_equal(refined.discarded, (labels >= 0) & ~kept)
    assert not refined.discarded[pivots].any(), "a pivot stays"
    assert not (refined.discarded & ~refined.doubted).any()
    assert refined.discarded.sum() == int(np.ceil(share * refined.doubted.sum() - 1e-9))
