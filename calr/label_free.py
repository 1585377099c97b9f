"""How good is a model for a site, when nobody has labelled anything?

Inside one camera a tracklet is one person, whatever the model thinks: cut in two halves with a gap between them, the
halves should find each other among all tracklets of that camera. That says whether people are told apart. Whether
cameras are *bridged* shows in how well the camera can be predicted from an embedding (it should not be), and in how
many tracklets are mutual nearest neighbours with one of another camera.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from calr.metrics import evaluate_ranking
from calr.neighbour_graph import node_features
from calr.silhouette import silhouette

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

HALF_GAP_S = 1.0


@dataclass(frozen=True)
class LabelFreeScore:
    """All fractions; `None` where the site cannot tell (one camera, or no tracklet long enough).

    tracklet_consistency: mAP of half-tracklet retrieval inside each camera, mean over queries.
    tracklets_used, tracklets_too_short: how many tracklets could be cut in two halves a second apart, and how many not.
    camera_predictability: balanced accuracy of predicting the camera, rescaled so that 0 is chance and 1 is certainty.
    mutual_neighbours: share of tracklets that are mutual nearest neighbours with a tracklet of some other camera.
    silhouette: mean silhouette (cosine) of the given clusters, in −1..1.
    score: mean of consistency, mutual neighbours and 1 − camera predictability, over those that are known.
    """

    tracklet_consistency: float | None
    tracklets_used: int
    tracklets_too_short: int
    camera_predictability: float | None
    mutual_neighbours: float | None
    silhouette: float | None
    score: float | None

    def as_dict(self) -> dict[str, float | int | None]:
        return asdict(self)


def label_free_score(
    embeddings: Floats,
    crop_tracklet: Ids,
    crop_time_s: NDArray[np.float64],
    tracklet_camera: Ids,
    clusters: Ids | None = None,
) -> LabelFreeScore:
    """Judge crop embeddings by what a site knows without labels.

    Args:
        embeddings: (crops, D), normalised.
        crop_tracklet: (crops,) tracklet index of each crop.
        crop_time_s: (crops,) seconds into its recording.
        tracklet_camera: (tracklets,) camera index.
        clusters: (tracklets,) cluster of each tracklet, −1 for none; None leaves the silhouette unknown.
    """
    consistency, used, short = tracklet_consistency(embeddings, crop_tracklet, crop_time_s, tracklet_camera)
    vectors = node_features(embeddings, crop_tracklet, len(tracklet_camera))
    predictability = camera_predictability(vectors, tracklet_camera)
    mutual = mutual_neighbour_share(vectors, tracklet_camera)
    parts = [consistency, mutual, None if predictability is None else 1.0 - predictability]
    known = [part for part in parts if part is not None]
    return LabelFreeScore(
        tracklet_consistency=consistency,
        tracklets_used=used,
        tracklets_too_short=short,
        camera_predictability=predictability,
        mutual_neighbours=mutual,
        silhouette=None if clusters is None else silhouette(vectors, clusters),
        score=float(np.mean(known)) if known else None,
    )


def tracklet_consistency(
    embeddings: Floats, crop_tracklet: Ids, crop_time_s: NDArray[np.float64], tracklet_camera: Ids
) -> tuple[float | None, int, int]:
    """(mAP, tracklets used, tracklets too short) of half-tracklet retrieval inside each camera.

    The early and the late half lie at least HALF_GAP_S apart. Each half queries the other halves of its camera; a
    tracklet too short to be cut stays in the gallery, whole, as a distractor.
    """
    count = len(tracklet_camera)
    early, late = np.zeros(len(crop_tracklet), bool), np.zeros(len(crop_tracklet), bool)
    for tracklet in range(count):
        rows = np.flatnonzero(crop_tracklet == tracklet)
        if rows.size < 2:
            continue
        times = crop_time_s[rows]
        middle = (times.min() + times.max()) / 2
        before, after = rows[times <= middle - HALF_GAP_S / 2], rows[times >= middle + HALF_GAP_S / 2]
        if before.size and after.size:
            early[before], late[after] = True, True
    usable = np.zeros(count, bool)
    usable[np.unique(crop_tracklet[early])] = True
    whole = node_features(embeddings, crop_tracklet, count)
    halves = [node_features(embeddings[mask], crop_tracklet[mask], count) for mask in (early, late)]
    positives = np.eye(count, dtype=bool)[usable]
    valid = (tracklet_camera[:, None] == tracklet_camera[None, :])[usable]
    has_rival = valid.sum(axis=1) > 1
    if not has_rival.any():
        return None, int(usable.sum()), int((~usable).sum())
    precisions = []
    for asking, answering in (halves, halves[::-1]):
        gallery = np.where(usable[:, None], answering, whole)
        distance = 1.0 - asking[usable] @ gallery.T
        precisions.append(evaluate_ranking(distance[has_rival], positives[has_rival], valid[has_rival]).mAP)
    return float(np.mean(precisions)), int(usable.sum()), int((~usable).sum())


def camera_predictability(vectors: Floats, cameras: Ids, seed: int = 0) -> float | None:
    """Cross-validated balanced accuracy of a linear camera classifier, 0 = chance, 1 = certainty.

    None where fewer than two cameras have the five tracklets that five folds need.
    """
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped, unused-ignore]
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    names, counts = np.unique(cameras, return_counts=True)
    rows = np.isin(cameras, names[counts >= 5])
    kept = np.unique(cameras[rows])
    if kept.size < 2:
        return None
    folds = StratifiedKFold(n_splits=5, shuffle=True, random_state=seed)
    guess = cross_val_predict(
        LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000), vectors[rows], cameras[rows], cv=folds
    )
    accuracy = float(np.mean([np.mean(guess[cameras[rows] == camera] == camera) for camera in kept]))
    chance = 1.0 / kept.size
    return float(np.clip((accuracy - chance) / (1.0 - chance), 0.0, 1.0))


def mutual_neighbour_share(vectors: Floats, cameras: Ids) -> float | None:
    """Share of tracklets that have a mutual nearest neighbour in at least one other camera; None with one camera."""
    if np.unique(cameras).size < 2:
        return None
    similarity = vectors @ vectors.T
    mutual = np.zeros(len(cameras), bool)
    rows_of = {camera: np.flatnonzero(cameras == camera) for camera in np.unique(cameras)}
    for one, rows in rows_of.items():
        for other, columns in rows_of.items():
            if one >= other:
                continue
            block = similarity[np.ix_(rows, columns)]
            forth, back = block.argmax(axis=1), block.argmax(axis=0)
            agree = back[forth] == np.arange(rows.size)
            mutual[rows[agree]] = True
            mutual[columns[forth[agree]]] = True
    return float(mutual.mean())
