"""Split global clusters that hang together only through chains.

Infomap follows links: two people joined by one look-alike end in one cluster, above all at small sites. Inside each of
its clusters average linkage asks the stricter question whether members are similar *on average*, and tracklets seen at
the same time by one camera (cannot-link) never stay together. Infomap is still needed: average linkage over a whole
large site merges strangers. Pairwise F before training, linkage alone / Infomap alone / both: tracklets of Market-1501
0.50 / 0.65 / 0.67; a rendered site with 24 people in 68 tracklets 0.79 / 0.75 / 0.80.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from calr.infomap_clusters import renumber
from calr.local_clusters import average_linkage


def split_clusters(
    labels: NDArray[np.int64],
    features: NDArray[np.float32],
    max_distance: float,
    cannot_link: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Average linkage on cosine distance inside each cluster.

    Args:
        labels: (M,) cluster of each node, -1 = none.
        features: (M, D) L2-normalised.
        max_distance: the cut, in (0, 1); negative similarities count as 0.
        cannot_link: (P, 2) pairs of nodes that never end in one cluster.

    Returns:
        (M,) labels numbered by first member, each inside one old cluster; -1 stays -1.
    """
    nodes = len(labels)
    clustered = np.flatnonzero(labels >= 0)
    order = clustered[np.argsort(labels[clustered], kind="stable")]
    rows, columns, values = [], [], []
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(members) < 2:
            continue
        similarity = np.clip(features[members] @ features[members].T, 0, 1).astype(np.float64)
        first, second = np.nonzero(np.triu(similarity, 1))
        rows.append(members[first])
        columns.append(members[second])
        values.append(similarity[first, second])
    if not rows:
        return labels.copy()
    row, column, value = np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
    both = sparse.csr_array(
        (np.concatenate([value, value]), (np.concatenate([row, column]), np.concatenate([column, row]))),
        shape=(nodes, nodes),
    )
    parts = average_linkage(both, np.ones(nodes, dtype=np.int64), max_distance, cannot_link)
    return renumber(np.where(labels >= 0, parts, -1))
