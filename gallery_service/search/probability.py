"""How likely each match of a search shows the person that was asked for, where the model is calibrated."""

from __future__ import annotations

import math
from collections.abc import Collection, Set

import numpy as np
from numpy.typing import NDArray

from gallery_service.search.filters import SearchFilters
from gallery_service.search.loaded_gallery import LoadedGallery


def probabilities(
    gallery: LoadedGallery,
    query: NDArray[np.float32],
    rows: NDArray[np.int64],
    cosines: NDArray[np.float64],
    seen: Set[str] | None,
    own_cameras: Collection[str] = (),
) -> list[float | None]:
    """The probability of each match; None where the model is uncalibrated, where a camera shows too few to compare
    with, and for matches of a camera that the query comes from: those look more alike, so that it would be too high.

    What was searched for with filters is compared with all that its cameras show: leaving others out of the answer does
    not make a match any surer.

    Args:
        gallery: where the matches were found.
        query: (D,), of length 1.
        rows, cosines: (k,), the matches.
        seen: cameras that whoever asks may see (`Caller.cameras`); None: all.
        own_cameras: which saw what was asked for, as far as that is known: of an uploaded picture it is not.
    """
    calibration = gallery.bundle.calibration
    if calibration is None or not len(rows):
        return [None] * len(rows)
    camera = gallery.columns.camera
    everything = gallery.columns.allowed(SearchFilters(), seen)
    sizes = np.bincount(camera if everything is None else camera[everything])
    ranks = calibration.look_alikes.within(float(sizes[sizes > 0].mean()))
    nearest, nearest_cosines = gallery.index.nearly(query, ranks.depth, everything)
    levels = ranks.levels(nearest_cosines, camera[nearest], camera[rows])
    own = [number for number, camera_id in enumerate(gallery.columns.camera_ids) if camera_id in own_cameras]
    levels[np.isin(camera[rows], own)] = math.nan
    found = calibration.probability(cosines, levels).tolist()
    return [None if math.isnan(value) else round(value, 4) for value in found]
