"""Local clusters: who is who inside one camera (CALR section 3.1), by average linkage on k-reciprocal Jaccard distance.

Tracklets come in as ready-made groups (must-link); two tracklets of one camera that are seen at the same time are two
people (cannot-link). The number of clusters follows from a distance cut (`calr.profiles.LocalClustering`), not from N/5
as published, which gave pairwise F 0.43 on Market-1501 (design.md section 8).
"""

import heapq

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from calr.infomap_clusters import renumber
from models.matching.jaccard import jaccard_distance


def average_linkage(
    similarity: sparse.csr_array,
    sizes: NDArray[np.int64],
    max_distance: float,
    cannot_link: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Agglomerative clustering with average linkage, on sparse similarities.

    The distance of two clusters is 1 - (sum of similarities between their members) / (size × size); pairs that are not
    stored have similarity 0, so they can only merge through others. Equal to dense average linkage with the same cut
    and never larger than the number of stored pairs.

    Args:
        similarity: (n, n) symmetric, entry = *sum* of similarities between the members of two items; diagonal ignored.
        sizes: (n,) members of each item (1 for single points).
        max_distance: merging stops when the nearest pair is farther than this; in (0, 1).
        cannot_link: (P, 2) items that never end in one cluster.

    Returns:
        (n,) int64 labels 0..C-1 in order of first member.
    """
    if not 0 < max_distance < 1:
        raise ValueError(f"max_distance is {max_distance}, it must lie between 0 and 1")
    n = len(sizes)
    size = [int(s) for s in sizes]
    near: list[dict[int, float] | None] = [{} for _ in range(n)]
    apart: list[set[int]] = [set() for _ in range(n)]
    for a, b in [] if cannot_link is None else cannot_link.tolist():
        apart[a].add(b)
        apart[b].add(a)
    coo = sparse.coo_array(similarity)
    heap: list[tuple[float, int, int]] = []
    for a, b, value in zip(coo.row.tolist(), coo.col.tolist(), coo.data.tolist(), strict=True):
        if a != b and value > 0:
            neighbours = near[a]
            assert neighbours is not None
            neighbours[b] = value
            if a < b and b not in apart[a]:
                heap.append((1.0 - value / (size[a] * size[b]), a, b))
    heapq.heapify(heap)
    merged_into = list(range(n))
    while heap and heap[0][0] <= max_distance:
        _, a, b = heapq.heappop(heap)
        near_a, near_b = near[a], near[b]
        if near_a is None or near_b is None:
            continue  # one of them has been merged since
        new = len(near)
        joined = near_a
        for other, value in near_b.items():
            joined[other] = joined.get(other, 0.0) + value
        joined.pop(a, None)
        joined.pop(b, None)
        both_apart = apart[a] | apart[b]
        near[a] = near[b] = None
        near.append(joined)
        apart.append(both_apart)
        size.append(size[a] + size[b])
        merged_into.append(new)
        merged_into[a] = merged_into[b] = new
        for other in both_apart:
            apart[other] -= {a, b}
            apart[other].add(new)
        for other, value in joined.items():
            theirs = near[other]
            assert theirs is not None
            theirs.pop(a, None)
            theirs.pop(b, None)
            theirs[new] = value
            if other not in both_apart:
                heapq.heappush(heap, (1.0 - value / (size[other] * size[new]), other, new))
    # Clusters are numbered after their parts, so roots are known once parents are walked from the top down.
    for item in range(len(merged_into) - 1, -1, -1):
        merged_into[item] = merged_into[merged_into[item]]
    return renumber(np.asarray(merged_into[:n], dtype=np.int64))


def camera_clusters(
    features: NDArray[np.float32],
    node: NDArray[np.int64],
    nodes: int,
    max_distance: float,
    k1: int,
    k2: int,
    cannot_link: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Local clusters of one camera.

    Args:
        features: (N, D) L2-normalised features of the camera's crops.
        node: (N,) node (tracklet or crop) of each crop, 0..nodes-1.
        nodes: number of nodes.
        max_distance: the cut on average Jaccard distance.
        k1, k2: neighbours of the k-reciprocal encoding (Zhong et al., CVPR 2017); cut down for few crops.
        cannot_link: (P, 2) pairs of nodes.

    Returns:
        (nodes,) int64 labels.
    """
    n = len(features)
    if nodes < 2 or n < 3:
        return np.arange(nodes, dtype=np.int64)
    k1 = max(2, min(k1, n // 2))
    crops = sparse.csr_array(jaccard_distance(features, k1, min(k2, k1)))
    member = sparse.csr_array((np.ones(n), (node, np.arange(n))), shape=(nodes, n))
    return average_linkage(
        sparse.csr_array(member @ crops @ member.T), np.bincount(node, minlength=nodes), max_distance, cannot_link
    )


def local_clusters(
    features: NDArray[np.float32],
    node: NDArray[np.int64],
    node_camera: NDArray[np.int64],
    max_distance: float,
    k1: int = 15,
    k2: int = 4,
    cannot_link: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Local clusters of every camera, numbered through.

    Args:
        features: (N, D) L2-normalised features of all crops.
        node: (N,) node of each crop.
        node_camera: (M,) camera of each node.
        max_distance, k1, k2: as in `camera_clusters`.
        cannot_link: (P, 2) pairs of nodes of one camera.

    Returns:
        (M,) int64 labels, no label in two cameras.
    """
    nodes = len(node_camera)
    labels = np.full(nodes, -1, dtype=np.int64)
    position = np.full(nodes, -1, dtype=np.int64)
    used = 0
    for camera in np.unique(node_camera):
        members = np.flatnonzero(node_camera == camera)
        position[members] = np.arange(len(members))
        crops = np.flatnonzero(node_camera[node] == camera)
        pairs = None
        if cannot_link is not None and len(cannot_link):
            here = (node_camera[cannot_link] == camera).all(1)
            pairs = position[cannot_link[here]]
        found = camera_clusters(features[crops], position[node[crops]], len(members), max_distance, k1, k2, pairs)
        labels[members] = found + used
        used += int(found.max(initial=-1)) + 1
    return labels


def overlapping_nodes(
    node_camera: NDArray[np.int64], clock: NDArray[np.int64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Pairs of nodes of one camera that are seen at the same time: two people (cannot-link).

    Args:
        node_camera: (M,).
        clock: (M,) nodes whose times can be compared share a clock (the recording, say); -1 = time unknown.
        start, end: (M,) seconds on that clock.

    Returns:
        (P, 2) int64, first < second, sorted. Touching ends do not overlap.
    """
    pairs: list[tuple[int, int]] = []
    known = np.flatnonzero(clock >= 0)
    order = known[np.lexsort((known, start[known], clock[known], node_camera[known]))]
    open_nodes: list[int] = []
    place: tuple[int, int] | None = None
    for item in order.tolist():
        here = (int(node_camera[item]), int(clock[item]))
        if here != place:
            place, open_nodes = here, []
        open_nodes = [other for other in open_nodes if end[other] > start[item]]
        pairs.extend((min(item, other), max(item, other)) for other in open_nodes if end[item] > start[other])
        open_nodes.append(item)
    return np.asarray(sorted(set(pairs)), dtype=np.int64).reshape(-1, 2)
