"""The graph that inter-camera clustering runs on: nodes, and links to their nearest neighbours.

A *node* is what is known to be one person before any learning: a tracklet, or a single crop where a data set has no
tracklets. Training uses crops; every decision about who is who is taken on nodes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.matching.neighbours import nearest_others, top_k


@dataclass(frozen=True)
class Links:
    """Directed, weighted links between nodes.

    Attributes:
        source, target: (E,) int64 node indices, source != target, no pair twice.
        similarity: (E,) float32 cosine similarity, above 0.
        nodes: number of nodes, linked or not.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    similarity: NDArray[np.float32]
    nodes: int

    def __len__(self) -> int:
        return len(self.source)


def node_features(features: NDArray[np.float32], node: NDArray[np.int64], nodes: int) -> NDArray[np.float32]:
    """L2-normalised mean feature of each node. features (N, D), node (N,) -> (nodes, D); an empty node is all zero."""
    total = np.zeros((nodes, features.shape[1]), dtype=np.float64)
    np.add.at(total, node, features)
    norm = np.linalg.norm(total, axis=1, keepdims=True)
    mean: NDArray[np.float32] = (total / np.maximum(norm, 1e-12)).astype(np.float32)
    return mean


def centre_per_camera(features: NDArray[np.float32], camera: NDArray[np.int64]) -> NDArray[np.float32]:
    """Take each camera's mean feature away and normalise again: what is common to a camera says nothing about people.

    features (N, D) L2-normalised, camera (N,) -> (N, D). (The shift part of "Exploring the camera bias", ICLR 2025;
    dividing by the standard deviation as well made clusters worse on Market-1501, so it is left out.)
    """
    centred = features.astype(np.float64)
    for name in np.unique(camera):
        rows = camera == name
        if rows.sum() > 1:
            centred[rows] -= centred[rows].mean(0)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (centred / np.maximum(norm, 1e-12)).astype(np.float32)
    return unit


def nearest_links(features: NDArray[np.float32], k: int, min_similarity: float) -> Links:
    """Links from each node to its k nearest others, as the paper has it (k = 15, cosine >= 0.5 for ResNet-50)."""
    nodes = len(features)
    k = min(k, nodes - 1)
    if k < 1:
        return _no_links(nodes)
    similarity, index = nearest_others(features, k)
    source = np.repeat(np.arange(nodes, dtype=np.int64), k)
    target, value = index.reshape(-1), similarity.reshape(-1)
    kept = value >= max(min_similarity, 1e-6)
    return Links(source[kept], target[kept], value[kept], nodes)


def mutual_links_per_camera(
    features: NDArray[np.float32],
    camera: NDArray[np.int64],
    own: int,
    other: int,
    min_similarity: float,
    forbidden: NDArray[np.int64] | None = None,
) -> Links:
    """Links between nodes that are among each other's nearest, looked up camera by camera.

    In every camera b a node has at most `other` candidates (`own` in its own camera). A link stays where both ends are
    each other's candidates. So a person's near-identical sightings in one camera cannot crowd out the other cameras,
    which is what plain nearest neighbours do (the idea of CA-Jaccard, CVPR 2024, applied to the graph itself).

    Args:
        features: (N, D) L2-normalised node features.
        camera: (N,) camera of each node.
        own: candidates in the node's own camera.
        other: candidates in each other camera.
        min_similarity: weaker links are dropped.
        forbidden: (P, 2) pairs of nodes that cannot be one person.

    Returns:
        Links in both directions, sorted by (source, target).
    """
    nodes = len(features)
    pairs: list[NDArray[np.int64]] = []
    values: list[NDArray[np.float32]] = []
    for name in np.unique(camera):
        inside = np.flatnonzero(camera == name)
        for same in (True, False):
            queries = inside if same else np.flatnonzero(camera != name)
            k = min(own, len(inside) - 1) if same else min(other, len(inside))
            if k < 1 or len(queries) == 0:
                continue
            if same:
                similarity, index = nearest_others(features[inside], k)
            else:
                similarity, index = top_k(features[queries], features[inside], k)
            target = inside[index.reshape(-1)]
            pairs.append(np.stack([np.repeat(queries, k), target], 1))
            values.append(similarity.reshape(-1))
    if not pairs:
        return _no_links(nodes)
    pair = np.concatenate(pairs).astype(np.int64)
    value = np.concatenate(values)
    kept = value >= max(min_similarity, 1e-6)
    pair, value = pair[kept], value[kept]
    key = pair[:, 0] * nodes + pair[:, 1]
    back = pair[:, 1] * nodes + pair[:, 0]
    mutual = np.isin(key, back)
    if forbidden is not None and len(forbidden):
        never = np.concatenate([forbidden[:, 0] * nodes + forbidden[:, 1], forbidden[:, 1] * nodes + forbidden[:, 0]])
        mutual &= ~np.isin(key, never)
    pair, value, key = pair[mutual], value[mutual], key[mutual]
    order = np.argsort(key, kind="stable")
    return Links(pair[order, 0], pair[order, 1], value[order], nodes)


def _no_links(nodes: int) -> Links:
    empty = np.zeros(0, dtype=np.int64)
    return Links(empty, empty, np.zeros(0, dtype=np.float32), nodes)
