"""Does the label-free score pick good models? Over the epochs of a benchmark run, where the truth is known: the rank
correlation (Spearman's) between each part of the score and mAP on the test part.

The score needs tracklets. Market-1501 has none, but its file names tell sequence and frame, so they are emulated from
names *and identities* of the training part: what a tracker would have given, unknown to training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calr.benchmark_images import read_split
from calr.checkpoint import kept_checkpoints, restore_module
from calr.datasets import Benchmark, Split
from calr.label_free import label_free_score
from calr.metrics import evaluate_ranking, same_identity_same_camera_excluded

if TYPE_CHECKING:
    from calr.intra_camera import Progress
    from calr.precision import Precision
    from models.reid import ReidNet

FRAMES_PER_SECOND = 25.0
LONGEST_GAP = 100
"""Frames after which a tracker would have lost a person."""
PARTS = ("score", "tracklet_consistency", "mutual_neighbours", "camera_predictability")

_NAME = re.compile(r"[-\d]+_c\d+s(\d+)_(\d+)_")


@dataclass(frozen=True)
class EmulatedTracklets:
    """(N,) tracklet of each image, (N,) seconds into its sequence, (T,) camera of each tracklet."""

    of_image: NDArray[np.int64]
    time_s: NDArray[np.float64]
    camera: NDArray[np.int64]


def emulated_tracklets(split: Split) -> EmulatedTracklets:
    """Images of one identity, camera and sequence with no gap of more than `LONGEST_GAP` frames.

    Raises:
        ValueError: file names do not tell sequence and frame.
    """
    fields = [_NAME.match(file.name) for file in split.files]
    odd = [file.name for file, found in zip(split.files, fields, strict=True) if found is None]
    if odd:
        raise ValueError(f"{len(odd)} file names tell no sequence and frame ({odd[0]}): tracklets cannot be emulated")
    sequence, frame = np.array([[int(f[1]), int(f[2])] for f in fields if f is not None], np.int64).T
    place = np.stack([split.identities, split.cameras, sequence])
    order = np.lexsort((frame, *place[::-1]))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(place[:, order]) != 0).any(0) | (np.diff(frame[order]) > LONGEST_GAP)
    of_image = np.empty(len(order), np.int64)
    of_image[order] = np.cumsum(new) - 1
    return EmulatedTracklets(of_image, frame / FRAMES_PER_SECOND, split.cameras[order[new]])


def score_correlation(
    start: Callable[[], ReidNet],
    checkpoints: Path,
    parts: Benchmark,
    precision: Precision,
    on_step: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Judge the start model and every epoch's model both ways.

    Args:
        start: gives the network with its start weights.
        checkpoints: folder of a run that kept them all.
        parts: the benchmark.
        precision: device and number format.
        on_step: told about progress.

    Returns:
        "models": a dict for each with stage, epoch, mAP, rank1 and the score's parts, and "spearman": the rank
        correlation of each part with mAP over those models.

    Raises:
        ValueError: the run did not keep its checkpoints, or file names tell no frame.
    """
    kept = [checkpoint.number for checkpoint in kept_checkpoints(checkpoints)]
    if kept != list(range(1, max(kept, default=1) + 1)):
        raise ValueError(f"{checkpoints} lacks epochs (there are {kept}): train again with all kept, in another --out")
    judge = _Judge(parts, precision)
    models: list[dict[str, Any]] = []
    for name, net in _models(start, checkpoints):
        on_step("judging epochs", len(models), len(kept) + 1)
        models.append({**name, **judge(net.to(precision.device))})
    return {"schema": 1, "models": models, "spearman": {part: rank_correlation(models, part) for part in PARTS}}


def rank_correlation(models: list[dict[str, Any]], part: str) -> float | None:
    """Spearman's, between a part and mAP, over the models that have it; None where it is always the same."""
    from scipy.stats import spearmanr

    known = [model for model in models if model[part] is not None]
    guess, truth = [float(model[part]) for model in known], [float(model["mAP"]) for model in known]
    if len(set(guess)) < 2 or len(set(truth)) < 2:
        return None
    return float(spearmanr(guess, truth).statistic)


def _models(start: Callable[[], ReidNet], checkpoints: Path) -> Iterator[tuple[dict[str, Any], ReidNet]]:
    yield {"stage": "start", "epoch": 0}, start()
    for checkpoint in kept_checkpoints(checkpoints):
        net = start()
        restore_module("net", net, checkpoint.tensors)
        stage = checkpoint.state["stage"]
        yield {"stage": stage["name"], "epoch": stage["epoch"]}, net


class _Judge:
    """Images are read once; then network after network is judged on them."""

    def __init__(self, parts: Benchmark, precision: Precision) -> None:
        self._precision = precision
        (self._train, train), (self._query, query), (self._gallery, gallery) = (
            read_split(split, parts.input_size) for split in (parts.train, parts.query, parts.gallery)
        )
        self._tracklets = emulated_tracklets(train)
        self._positive, self._valid = same_identity_same_camera_excluded(
            query.identities, query.cameras, gallery.identities, gallery.cameras
        )

    def __call__(self, net: ReidNet) -> dict[str, Any]:
        from calr.features import extract

        query, gallery, train = (
            extract(net, images, self._precision) for images in (self._query, self._gallery, self._train)
        )
        found = evaluate_ranking(1.0 - query @ gallery.T, self._positive, self._valid)
        tracklets = self._tracklets
        score = label_free_score(train, tracklets.of_image, tracklets.time_s, tracklets.camera).as_dict()
        return {"mAP": found.mAP, "rank1": found.rank1, **{part: score[part] for part in PARTS}}
