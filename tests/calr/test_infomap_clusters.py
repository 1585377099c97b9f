import subprocess
import sys

import numpy as np
import pytest

from calr.infomap_clusters import drop_small_clusters, infomap_clusters, renumber, smallest_cluster
from calr.neighbour_graph import Links, nearest_links


def _blobs(seed: int, people: int, crops: int):
    draw = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), crops)
    features = draw.normal(size=(people, 24))[person] + 0.3 * draw.normal(size=(len(person), 24))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), person


def test_separate_people_become_separate_clusters() -> None:
    features, person = _blobs(0, 8, 9)
    assert infomap_clusters(nearest_links(features, 5, 0.5), seed=1).tolist() == person.tolist()


@pytest.mark.parametrize("nodes", [40, 300])
def test_the_same_links_give_the_same_clusters_every_time(nodes: int) -> None:
    draw = np.random.default_rng(nodes)
    features = draw.normal(size=(nodes, 6)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    links = nearest_links(features, 6, 0.1)
    first = infomap_clusters(links, seed=7)
    assert first.max() > 2
    for _ in range(3):
        assert infomap_clusters(links, seed=7).tolist() == first.tolist()


def test_nodes_without_links_stand_alone() -> None:
    links = Links(np.array([1, 2]), np.array([2, 1]), np.array([0.9, 0.9], dtype=np.float32), 5)
    assert infomap_clusters(links, seed=1).tolist() == [0, 1, 1, 2, 3]
    empty = np.zeros(0, dtype=np.int64)
    assert infomap_clusters(Links(empty, empty, np.zeros(0, dtype=np.float32), 3), seed=1).tolist() == [0, 1, 2]


def test_small_clusters_are_counted_in_crops() -> None:
    labels = np.array([0, 0, 1, 2, -1])
    crops = np.array([2, 2, 5, 4, 50])
    assert drop_small_clusters(labels, crops, 5).tolist() == [-1, -1, 0, -1, -1]
    assert drop_small_clusters(labels, crops, 4).tolist() == [0, 0, 1, 2, -1]
    nobody = np.array([-1, -1])
    assert drop_small_clusters(nobody, np.array([9, 9]), 1).tolist() == [-1, -1]


def test_renumber_goes_by_first_member() -> None:
    assert renumber(np.array([7, -1, 3, 7, 0])).tolist() == [0, -1, 1, 0, 2]
    assert renumber(np.array([-1, -1])).tolist() == [-1, -1]


def test_the_smallest_cluster_follows_how_many_crops_people_leave() -> None:
    def smallest(sizes: list[int], crops: int = 1) -> int:
        labels = np.repeat(np.arange(len(sizes)), sizes)
        return smallest_cluster(labels, np.full(len(labels), crops), 5)

    assert smallest([20, 20, 20, 3]) == 5  # the paper's
    assert smallest([80] * 4) == 5  # never more
    assert smallest([6, 6, 6]) == 2 and smallest([9, 9, 9]) == 3
    assert smallest([3, 3], crops=3) == 3, "crops count, not nodes"
    assert smallest([1] * 50 + [12]) == 3, "crops that are alone say nothing"
    assert smallest([1, 1]) == smallest([]) == smallest_cluster(np.array([-1, -1]), np.array([3, 3]), 5) == 2


def test_importing_faiss_between_two_clusterings_changes_nothing() -> None:
    """Both are SWIG modules and share SWIG's types in one process: reading results through them ended it."""
    script = (
        "import numpy as np\n"
        "from calr.infomap_clusters import infomap_clusters\n"
        "from calr.neighbour_graph import Links\n"
        "draw = np.random.default_rng(0)\n"
        "source = np.repeat(np.arange(3000), 5)\n"
        "target = draw.integers(0, 3000, len(source))\n"
        "links = Links(source, target, np.ones(len(source), np.float32), 3000)\n"
        "before = infomap_clusters(links, 1)\n"
        "import faiss\n"
        "assert (infomap_clusters(links, 1) == before).all() and before.max() > 2\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
