"""Invented embeddings of people of whom some look alike, under cameras that each shift what they see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calr.reliability import Sightings


def look_alike_people(
    people: int, seed: int, cameras: int = 3, sightings: int = 2, noise: float = 0.9, dim: int = 48
) -> Sightings:
    """Everybody is seen `sightings` times by every camera. A person is a style, shared by five, and something of their
    own; what a camera shifts is the same for all seeds."""
    draw = np.random.default_rng([seed, 1])
    styles = draw.normal(size=(max(2, people // 5), dim))
    own = draw.normal(size=(people, dim))
    light = np.random.default_rng(0).normal(size=(cameras, dim))
    identity = np.repeat(np.arange(people), cameras * sightings)
    camera = np.tile(np.repeat(np.arange(cameras), sightings), people)
    vectors = styles[identity % len(styles)] + own[identity] + 0.5 * light[camera]
    vectors = vectors + noise * draw.normal(size=vectors.shape)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Sightings(unit.astype(np.float32), camera, identity)


def found_clusters(people: Sightings, epochs: int, seed: int = 1) -> list[NDArray[np.int64]]:
    """What a run's epochs would take for one person: from neighbours in the vectors, a little blurred at first."""
    from calr.cluster_splitting import split_clusters
    from calr.infomap_clusters import infomap_clusters
    from calr.inter_camera import neighbour_counts, similarity_cut
    from calr.neighbour_graph import centre_per_camera, mutual_links_per_camera

    draw, labels = np.random.default_rng(seed), []
    sightings = len(people.vectors) / len(np.unique(people.identities)) / len(np.unique(people.cameras))
    own, other = neighbour_counts(sightings)
    for epoch in range(epochs):
        blurred = people.vectors + 0.06 * (1 - epoch / epochs) * draw.normal(size=people.vectors.shape)
        nodes = centre_per_camera(blurred.astype(np.float32), people.cameras)
        cut = similarity_cut(nodes, people.cameras, seed)
        links = mutual_links_per_camera(nodes, people.cameras, own, other, cut)
        apart = np.zeros((0, 2), np.int64)
        labels.append(split_clusters(infomap_clusters(links, seed), nodes, 1 - cut, apart))
    return labels
