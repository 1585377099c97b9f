import numpy as np
import pytest

from calr.inter_camera import neighbour_counts, similarity_cut
from calr.neighbour_graph import centre_per_camera, mutual_links_per_camera, nearest_links, node_features


def _features(seed: int, n: int, dim: int = 8) -> np.ndarray:
    features = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def _as_set(links):
    return {(int(a), int(b)) for a, b in zip(links.source, links.target, strict=True)}


def _mutual_plain(features, camera, own, other, cut, forbidden):
    n = len(features)
    chosen = set()
    for i in range(n):
        for c in set(camera.tolist()):
            rivals = [j for j in range(n) if j != i and camera[j] == c]
            rivals.sort(key=lambda j: -float(features[i] @ features[j]))
            k = own if camera[i] == c else other
            chosen |= {(i, j) for j in rivals[:k] if features[i] @ features[j] >= cut}
    never = {tuple(p) for p in forbidden} | {tuple(p[::-1]) for p in forbidden}
    return {(i, j) for i, j in chosen if (j, i) in chosen and (i, j) not in never}


@pytest.mark.parametrize(("own", "other"), [(1, 1), (0, 1), (2, 1), (3, 2), (50, 50)])
@pytest.mark.parametrize(("nodes", "cameras"), [(2, 1), (2, 2), (20, 3), (45, 5)])
def test_mutual_links_equal_the_plain_search(nodes: int, cameras: int, own: int, other: int) -> None:
    features = _features(nodes, nodes)
    camera = np.random.default_rng(nodes).integers(0, cameras, nodes)
    forbidden = np.array([[0, 1]])
    links = mutual_links_per_camera(features, camera, own, other, 0.1, forbidden)
    wanted = _mutual_plain(features, camera, own, other, 0.1, forbidden.tolist())
    assert _as_set(links) == wanted
    assert len(links) == len(wanted)
    for a, b, s in zip(links.source, links.target, links.similarity, strict=True):
        assert s == pytest.approx(float(features[a] @ features[b]), abs=1e-5)


@pytest.mark.parametrize(("nodes", "k"), [(1, 3), (2, 3), (30, 4), (30, 100)])
def test_nearest_links_equal_the_plain_search(nodes: int, k: int) -> None:
    features = _features(nodes + k, nodes)
    wanted = set()
    for i in range(nodes):
        rivals = sorted((j for j in range(nodes) if j != i), key=lambda j: -float(features[i] @ features[j]))
        wanted |= {(i, j) for j in rivals[:k] if features[i] @ features[j] >= 0.2}
    assert _as_set(nearest_links(features, k, 0.2)) == wanted


def test_near_identical_crops_do_not_crowd_out_the_other_camera() -> None:
    # Two people, two cameras, eight nodes each: plain neighbours stay inside a camera, balanced ones do not.
    draw = np.random.default_rng(0)
    person, camera = np.repeat([0, 1, 0, 1], 8), np.repeat([0, 0, 1, 1], 8)
    base = draw.normal(size=(2, 16))[person] + 1.5 * draw.normal(size=(2, 16))[camera]
    features = base + 0.01 * draw.normal(size=(32, 16))
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    plain = nearest_links(features, 7, 0.0)
    assert (camera[plain.source] == camera[plain.target]).all()
    centred = centre_per_camera(features, camera)
    links = mutual_links_per_camera(centred, camera, 1, 1, 0.0)
    across = camera[links.source] != camera[links.target]
    assert across.any()
    assert (person[links.source] == person[links.target])[across].all()


def test_node_features_are_normalised_means() -> None:
    features = np.array([[1, 0], [0, 1], [0, -1]], dtype=np.float32)
    got = node_features(features, np.array([0, 0, 1]), 3)
    np.testing.assert_allclose(got, [[0.5**0.5, 0.5**0.5], [0, -1], [0, 0]], atol=1e-6)


def test_centring_takes_the_camera_away() -> None:
    draw = np.random.default_rng(1)
    camera = np.repeat([0, 1, 2], [20, 30, 1])
    features = _features(2, 51) * 0.3 + np.array([[1.0], [-1.0], [0.0]])[camera] * np.ones(8) / 8**0.5
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    centred = centre_per_camera(features, camera)
    np.testing.assert_allclose(np.linalg.norm(centred, axis=1), 1, rtol=1e-5)
    means = [centred[camera == c].mean(0) for c in (0, 1)]
    assert np.linalg.norm(means[0] - means[1]) < 0.3 * np.linalg.norm(features[:20].mean(0) - features[20:50].mean(0))
    np.testing.assert_allclose(centred[50], features[50], atol=1e-6)  # a camera's only node has nothing to compare with
    del draw


def test_neighbour_counts_follow_how_often_a_camera_sees_a_person() -> None:
    assert neighbour_counts(1.0) == (2, 1)
    assert neighbour_counts(1.3) == (2, 1)
    assert neighbour_counts(2.4) == (4, 2)
    assert neighbour_counts(10.0)[0] > neighbour_counts(10.0)[1] >= 7


def test_similarity_cut_lies_between_strangers_and_pairs_of_one_person() -> None:
    draw = np.random.default_rng(3)
    person, camera = np.tile(np.arange(60), 2), np.repeat([0, 1], 60)
    features = draw.normal(size=(60, 64))[person] + 0.5 * draw.normal(size=(120, 64))
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    cut = similarity_cut(features, camera, seed=1)
    similarity = features[:60] @ features[60:].T
    strangers = similarity[~np.eye(60, dtype=bool)]
    assert np.quantile(strangers, 0.99) < cut < np.diag(similarity).min()
    assert similarity_cut(features, np.zeros(120, dtype=np.int64), seed=1) == 0.0
