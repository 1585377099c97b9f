"""calr.export: whose labels a calibration is fitted with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calr.export import _calibrate
from calr.site_embeddings import SiteEmbeddings
from ingest.shards import CropSet
from tests.calr.look_alike_people import Sightings, found_clusters, look_alike_people


class Crops:
    """What `_calibrate` reads of a crop set: a crop for each tracklet, and a last tracklet without any."""

    def __init__(self, people: Sightings) -> None:
        self.tracklet = np.arange(len(people.vectors))
        self.tracklet_camera = np.append(people.cameras, 0)


@pytest.fixture(scope="module")
def people() -> Sightings:
    return look_alike_people(60, 1)


def calibrate(people: Sightings, epochs: list[Any]) -> Any:
    crops: CropSet = Crops(people)  # type: ignore[assignment]
    tracklets = np.append(people.vectors, np.zeros_like(people.vectors[:1]), axis=0)
    return _calibrate(crops, lambda bundle: SiteEmbeddings(people.vectors, tracklets), epochs)(None)  # type: ignore[arg-type]


def test_tracklets_without_crops_were_not_trained_on_and_are_left_out(people: Sightings) -> None:
    found = calibrate(people, found_clusters(people, 2))
    assert found is not None
    assert found.queries == len(people.vectors)


def test_labels_of_other_crops_calibrate_nothing(people: Sightings) -> None:
    """Recordings ingested between training and export."""
    epochs = found_clusters(people, 2)
    assert calibrate(people, [epochs[0], epochs[1][:-1]]) is None
    assert calibrate(people, []) is None
