"""Label refinement: undo "IDs merge" in global clusters with the help of local clusters (CALR section 3.3).

A node's score tells how dense its neighbourhood is; nodes scoring above the mean are *information nodes*. In each
(global cluster, camera) the best information node is the **pivot**; members of the same global cluster and camera that
are not in the pivot's local cluster are another person as seen by that camera, and are discarded for this epoch.

The published code takes one pivot per global cluster, and of the information nodes the last in index order
(`published_pivots`, for comparison); one pivot per camera, the best, is what the idea asks for (`camera_pivots`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calr.neighbour_graph import Links


@dataclass(frozen=True)
class Refined:
    """labels: (M,) global labels with -1 for what was discarded; doubted: (M,) bool, outside their pivot's local
    cluster; discarded: (M,) bool, the part of `doubted` that the schedule lets go."""

    labels: NDArray[np.int64]
    doubted: NDArray[np.bool_]
    discarded: NDArray[np.bool_]


def node_scores(links: Links) -> NDArray[np.float64]:
    """(M,) score Σ_j 1/(d_ij + mean d) over a node's links; d = 1 - similarity, its mean over all links. 0 without."""
    if not len(links):
        return np.zeros(links.nodes)
    distance = 1.0 - links.similarity.astype(np.float64)
    weight = 1.0 / np.maximum(distance + distance.mean(), 1e-12)
    scores: NDArray[np.float64] = np.bincount(links.source, weights=weight, minlength=links.nodes).astype(np.float64)
    return scores


def camera_pivots(
    labels: NDArray[np.int64], camera: NDArray[np.int64], scores: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The best-scoring information node of every (global cluster, camera) that has one; the first of equals.

    labels (M,) with -1 for no cluster, camera (M,), scores (M,) -> (Q,) node indices, sorted by (cluster, camera).
    """
    if not len(scores):
        return np.zeros(0, dtype=np.int64)
    informed = np.flatnonzero((labels >= 0) & (scores > scores.mean()))
    order = informed[np.lexsort((informed, -scores[informed], camera[informed], labels[informed]))]
    place = np.stack([labels[order], camera[order]], axis=1)
    first = np.ones(len(order), dtype=bool)
    first[1:] = (place[1:] != place[:-1]).any(1)
    return order[first]


def published_pivots(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """What the published code takes: of every global cluster's information nodes the last in index order.

    labels (M,) with -1 for no cluster, scores (M,) -> (Q,) node indices, sorted by cluster.
    """
    if not len(scores):
        return np.zeros(0, dtype=np.int64)
    informed = np.flatnonzero((labels >= 0) & (scores > scores.mean()))
    last = np.full(int(labels.max(initial=-1)) + 1, -1, dtype=np.int64)
    np.maximum.at(last, labels[informed], informed)
    return last[last >= 0]


def discard_share(epoch: int, start: float, full_at: int) -> float:
    """Self-paced schedule: share of the doubted nodes that is discarded in epoch e (from 0).

    share(e) = start + (1 - start) · min(1, e / full_at): at first only the surest cases go, from epoch `full_at` all.
    """
    return start + (1.0 - start) * min(1.0, epoch / full_at) if full_at > 0 else 1.0


def refine(
    labels: NDArray[np.int64],
    local: NDArray[np.int64],
    camera: NDArray[np.int64],
    pivots: NDArray[np.int64],
    features: NDArray[np.float32],
    share: float = 1.0,
) -> Refined:
    """Discard what contradicts the pivots.

    Args:
        labels: (M,) global cluster of each node, -1 = none.
        local: (M,) local cluster of each node, no label in two cameras.
        camera: (M,).
        pivots: (Q,) nodes, at most one in a (global cluster, camera).
        features: (M, D) L2-normalised; of the doubted nodes those farthest from their pivot go first.
        share: part of the doubted nodes to discard, in [0, 1] (rounded up).

    Returns:
        The refined labels, with what was doubted and discarded.
    """
    doubted = np.zeros(len(labels), dtype=bool)
    discarded = np.zeros(len(labels), dtype=bool)
    if len(pivots):
        cameras = int(camera.max()) + 1
        place = labels * cameras + camera
        pivot_at = dict(zip(place[pivots].tolist(), pivots.tolist(), strict=True))
        pivot = np.asarray(
            [
                pivot_at.get(p, -1) if label >= 0 else -1
                for p, label in zip(place.tolist(), labels.tolist(), strict=True)
            ],
            dtype=np.int64,
        )
        doubted = (pivot >= 0) & (local != local[pivot])
        candidates = np.flatnonzero(doubted)
        closeness = (features[candidates] * features[pivot[candidates]]).sum(1)
        count = int(np.ceil(share * len(candidates) - 1e-9))
        discarded[candidates[np.argsort(closeness, kind="stable")[:count]]] = True
    return Refined(np.where(discarded, -1, labels), doubted, discarded)
