"""Global clusters: Infomap (Rosvall & Bergstrom 2008) over the neighbour graph, as in CALR section 3.2."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calr.neighbour_graph import Links

if TYPE_CHECKING:
    from infomap import Result


def infomap_clusters(links: Links, seed: int, trials: int = 1) -> NDArray[np.int64]:
    """Directed two-level Infomap.

    Single-threaded and seeded, so the same links give the same clusters on every run.

    Args:
        links: the neighbour graph.
        seed: Infomap's seed (> 0).
        trials: independent attempts, the shortest description is kept.

    Returns:
        (links.nodes,) int64 labels 0..C-1, numbered by the first node of each cluster. A node without links is a
        cluster of its own.
    """
    labels = np.full(links.nodes, -1, dtype=np.int64)
    if len(links):
        from infomap import Infomap

        graph = Infomap(
            args=f"--silent --two-level --directed --seed {max(seed, 1)} --num-trials {trials} --num-threads 1"
        )
        graph.add_links(
            np.stack([links.source, links.target, links.similarity.astype(np.float64)], axis=1).astype(np.float64)
        )
        members, modules = _read_modules(graph.run())
        labels[members] = modules
    alone = np.flatnonzero(labels < 0)
    labels[alone] = labels.max(initial=-1) + 1 + np.arange(len(alone))
    return renumber(labels)


def _read_modules(result: Result) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(node, module) of every node with a link, through Infomap's own .clu file.

    `Result.modules()` iterates over SWIG vectors. faiss is a SWIG module too, and once it is imported the two share
    their iterator type: reading infomap's then ends the process.
    """
    with TemporaryDirectory(prefix="calr-infomap-") as folder:
        path = Path(folder) / "modules.clu"
        result.write_clu(str(path))
        table = np.loadtxt(path, comments="#", usecols=(0, 1), dtype=np.int64, ndmin=2)
    return table[:, 0], table[:, 1]


def drop_small_clusters(
    labels: NDArray[np.int64], crops_per_node: NDArray[np.int64], min_crops: int
) -> NDArray[np.int64]:
    """Labels with every cluster of fewer than min_crops crops turned into -1 (CALR drops 4 or fewer: min_crops = 5)."""
    if not (labels >= 0).any():
        return labels.copy()
    crops = np.bincount(labels[labels >= 0], weights=crops_per_node[labels >= 0])
    kept = (labels >= 0) & (crops[np.maximum(labels, 0)] >= min_crops)
    return renumber(np.where(kept, labels, -1))


def smallest_cluster(labels: NDArray[np.int64], crops_per_node: NDArray[np.int64], most: int) -> int:
    """How many crops a cluster needs at least to be trained on.

    A quarter of the crops in the cluster that the median crop is in, rounded up, at least 2 and at most `most`. The
    paper's 5 suits data where people leave twenty crops; where they leave six, it would drop half of them. Crops alone
    in their cluster are not counted.

    labels (M,) with -1 for no cluster, crops_per_node (M,).
    """
    inside = labels >= 0
    if not inside.any():
        return 2
    size = np.bincount(labels[inside], weights=crops_per_node[inside])
    of_crop = np.repeat(size[labels[inside]], crops_per_node[inside])
    together = of_crop[of_crop > 1]
    return int(np.clip(np.ceil(np.median(together) / 4), 2, most)) if len(together) else 2


def renumber(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same clusters numbered 0..C-1 in order of their first member; -1 stays -1."""
    kept = np.flatnonzero(labels >= 0)
    _, first, inverse = np.unique(labels[kept], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    out = np.full(len(labels), -1, dtype=np.int64)
    out[kept] = rank[inverse]
    return out
