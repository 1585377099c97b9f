"""Fit a model's calibration (`models.matching.calibration`) to a camera network that nobody has labelled.

Who is the same person in two cameras is only known as far as training has found out: from the global clusters of its
epochs. Those of the last epoch alone make a calibration too sure of itself: they were found with the very similarities
it judges, and those had been trained to agree with them. So a pair counts as right to the *share of epochs* that had it
in one cluster; the first epochs saw it with features that were not trained on it yet. (Targets averaged over epochs are
the idea of Laine and Aila, "Temporal ensembling for semi-supervised learning", ICLR 2017.)

The clusters also tell how often a person is seen in one camera, and so at which ranks its look-alikes begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.matching.calibration import Calibration, LookAlikes

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]

HITS = 10
"""How many matches of a query are looked at: those that people look at."""

MOST_QUERIES = 5000
"""A sample of so many says what all would."""

FEWEST = 100
"""Right matches, and wrong ones, as far as the clusters tell, without which nothing is fitted."""

FIRST_RANK, LAST_RANK = 2.0, 6.0
"""Times a person's sightings in one camera: between these ranks its look-alikes are taken. Twice, since some are seen
more often than the average."""

DEEPEST = 2000
"""Nearest vectors a search has to give at most, so that it stays fast with many cameras."""


@dataclass(frozen=True)
class Matches:
    """The first `HITS` matches of each query in other cameras, n in all: (n,) `query` and `match`, numbers of vectors,
    their `cosine`, and the look-alike `level` of the match's camera (NaN where unknown)."""

    query: Ids
    match: Ids
    cosine: Doubles
    level: Doubles

    def known(self) -> Matches:
        """Those whose level is known."""
        kept = np.isfinite(self.level)
        return Matches(self.query[kept], self.match[kept], self.cosine[kept], self.level[kept])


def fit_calibration(vectors: Floats, cameras: Ids, clusterings: Sequence[Ids], seed: int = 0) -> Calibration | None:
    """Fit the probability of the first matches in other cameras.

    Args:
        vectors: (T, D), of what is searched for and found (tracklets, or crops where there are none), length 1.
        cameras: (T,).
        clusterings: each (T,), the global clusters of an epoch, -1 for none. For a model that was not trained on them,
            one is enough.
        seed: of the sample of queries, where there are more than `MOST_QUERIES`.

    Returns:
        None where there is too little to fit: one camera, fewer than `FEWEST` matches of a kind, or matches in which
        the right ones do not stand out.
    """
    if len(np.unique(cameras)) < 2 or not clusterings:
        return None
    look_alikes = look_alike_ranks(cameras, clusterings)
    queries = np.arange(len(vectors))
    if len(queries) > MOST_QUERIES:
        queries = np.sort(np.random.default_rng(seed).choice(queries, MOST_QUERIES, replace=False))
    found = matches_in_other_cameras(look_alikes, vectors[queries], cameras[queries], vectors, cameras).known()
    first, second = queries[found.query], found.match
    right = np.mean([(labels[first] == labels[second]) & (labels[first] >= 0) for labels in clusterings], axis=0)
    if min(right.sum(), (1.0 - right).sum()) < FEWEST:
        return None
    asked = len(np.unique(first))
    slope, intercept = fit_sigmoid(found.cosine - found.level, right, asked)
    if slope <= 0:
        return None
    return Calibration(slope, intercept, look_alikes, asked, round(float(right.mean()), 4))


def look_alike_ranks(cameras: Ids, clusterings: Sequence[Ids]) -> LookAlikes:
    """The ranks of a camera at which the person itself is no longer to be expected. Arguments as `fit_calibration`."""
    seen, there_are = sightings_per_camera(cameras, clusterings), len(np.unique(cameras))
    last = min(max(2, round(LAST_RANK * seen)), DEEPEST)
    first = min(max(1, round(FIRST_RANK * seen)), last)
    return LookAlikes(first, last, max(last, min(2 * last * there_are, DEEPEST)), len(cameras) / there_are)


def sightings_per_camera(cameras: Ids, clusterings: Sequence[Ids]) -> float:
    """How many vectors of its cluster and its camera a vector finds, itself included: the mean over all vectors in
    clusters of all clusterings; 1 where there are none."""
    counts = []
    for labels in clusterings:
        inside = labels >= 0
        place = np.stack([labels[inside], cameras[inside]])
        _, member, size = np.unique(place, axis=1, return_inverse=True, return_counts=True)
        counts.append(size[member.ravel()])
    together = np.concatenate(counts)
    return float(together.mean()) if len(together) else 1.0


def matches_in_other_cameras(
    look_alikes: LookAlikes, queries: Floats, query_cameras: Ids, gallery: Floats, cameras: Ids, chunk: int = 256
) -> Matches:
    """Search for every query as the gallery service does.

    Args:
        look_alikes: where levels are taken from, in a gallery of the size they were chosen for.
        queries, query_cameras: (Q, D) of length 1, and (Q,).
        gallery, cameras: (G, D) of length 1, and (G,).
        chunk: queries handled at once; memory is chunk × G floats.
    """
    import torch

    look_alikes = look_alikes.within(len(gallery) / max(1, len(np.unique(cameras))))
    asked, found = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    cosine, level = [np.zeros(0)], [np.zeros(0)]
    all_vectors, all_cameras = torch.from_numpy(gallery).float(), torch.from_numpy(cameras)
    for start in range(0, len(queries), chunk):
        rows = slice(start, min(start + chunk, len(queries)))
        cosines = torch.from_numpy(queries[rows]).float() @ all_vectors.T
        nearest, where = (part.numpy() for part in cosines.topk(min(look_alikes.depth, len(gallery)), dim=1))
        cosines[torch.from_numpy(query_cameras[rows])[:, None] == all_cameras[None]] = -torch.inf
        best, match = (part.numpy() for part in cosines.topk(min(HITS, len(gallery)), dim=1))
        for row in range(rows.stop - rows.start):
            here = np.isfinite(best[row])
            asked.append(np.full(int(here.sum()), start + row))
            found.append(match[row][here])
            cosine.append(best[row][here].astype(np.float64))
            level.append(look_alikes.levels(nearest[row], cameras[where[row]], cameras[found[-1]]))
    return Matches(np.concatenate(asked), np.concatenate(found), np.concatenate(cosine), np.concatenate(level))


def fit_sigmoid(margin: Doubles, right: Doubles, queries: int) -> tuple[float, float]:
    """Slope and intercept of the logistic function nearest to some targets, in cross-entropy.

    Targets are pulled in from 0 and 1 as Platt does, by what so few could have been by chance. He counts examples; here
    queries are counted, since the matches of one are not independent of each other.

    Args:
        margin: (n,).
        right: (n,) in 0..1, with both kinds in it.
        queries: how many of them the matches belong to.
    """
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped, unused-ignore]

    yes, no = queries * right.mean(), queries * (1.0 - right.mean())
    target = right * (yes + 1) / (yes + 2) + (1.0 - right) / (no + 2)
    scale = float(margin.std()) or 1.0
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
        np.concatenate([margin, margin])[:, None] / scale,
        np.repeat([1, 0], len(margin)),
        np.concatenate([target, 1.0 - target]),
    )
    return float(model.coef_[0, 0]) / scale, float(model.intercept_[0])
