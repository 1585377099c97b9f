"""Retrieval metrics of the field: mean average precision (mAP) and cumulative matching characteristics (CMC).

Protocol of Zheng et al., "Scalable Person Re-identification: A Benchmark" (ICCV 2015): for each query the gallery is
ranked by distance, entries that the protocol rules out are taken away, AP is the mean of the precisions at each
positive's rank (no interpolation), CMC counts the first positive. Queries without a positive are left out of the mean.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

BoolMatrix = NDArray[np.bool_]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Retrieval:
    """Figures of one evaluation, as fractions; `queries` counts those that had a positive."""

    mAP: float  # noqa: N815 - the field's spelling, and a key of report.json
    rank1: float
    rank5: float
    rank10: float
    queries: int
    gallery: int

    def as_dict(self) -> dict[str, float | int]:
        return asdict(self)


def evaluate_ranking(distance: NDArray[np.floating], positive: BoolMatrix, valid: BoolMatrix) -> Retrieval:
    """Rank every query's valid gallery entries and score the ranking.

    Args:
        distance: (queries, gallery), smaller is more alike. Ties keep the gallery's order (stable sort).
        positive: (queries, gallery), true where the entry shows the query's identity.
        valid: (queries, gallery), false where the protocol takes the entry out of this query's ranking.

    Raises:
        ValueError: the shapes differ, or no query has a valid positive.
    """
    if not distance.shape == positive.shape == valid.shape:
        raise ValueError(f"shapes differ: distance {distance.shape}, positive {positive.shape}, valid {valid.shape}")
    precisions: list[float] = []
    first_ranks: list[int] = []
    for row in range(distance.shape[0]):
        kept = np.flatnonzero(valid[row])
        order = kept[np.argsort(distance[row, kept].astype(np.float64), kind="stable")]
        ranks = np.flatnonzero(positive[row, order])
        if ranks.size == 0:
            continue
        precisions.append(float(np.mean(np.arange(1, ranks.size + 1, dtype=np.float64) / (ranks + 1))))
        first_ranks.append(int(ranks[0]))
    if not precisions:
        raise ValueError("no query has a positive in the gallery: nothing can be measured")
    first = np.asarray(first_ranks)
    return Retrieval(
        mAP=float(np.mean(precisions)),
        rank1=float(np.mean(first < 1)),
        rank5=float(np.mean(first < 5)),
        rank10=float(np.mean(first < 10)),
        queries=len(precisions),
        gallery=distance.shape[1],
    )


def same_identity_same_camera_excluded(
    query_ids: Ids, query_cameras: Ids, gallery_ids: Ids, gallery_cameras: Ids
) -> tuple[BoolMatrix, BoolMatrix]:
    """(positive, valid) of Market-1501's protocol: entries of the query's identity *and* camera do not count."""
    positive = query_ids[:, None] == gallery_ids[None, :]
    valid = ~(positive & (query_cameras[:, None] == gallery_cameras[None, :]))
    return positive, valid


def other_cameras_only(ids: Ids, cameras: Ids) -> tuple[BoolMatrix, BoolMatrix]:
    """(positive, valid) of the site's protocol: each row queries all rows of the *other* cameras.

    A row with identity −1 (nobody) is never a query with a positive, and stays in every gallery as a distractor.
    """
    valid = cameras[:, None] != cameras[None, :]
    positive = (ids[:, None] == ids[None, :]) & (ids[:, None] >= 0) & valid
    return positive, valid
