"""calr.export: whose labels a calibration is fitted with, and which model goes live."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from calr.export import _calibrate, _go_live
from calr.site_embeddings import SiteEmbeddings
from ingest.shards import CropSet
from models.bundle import Bundle, ModelStore
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


SCORES = {"start": 0.5, "good": 0.7, "best": 0.9}


class Store(ModelStore):
    """Holds nothing but names."""

    def load(self, version: str) -> Bundle:
        (self.folder / version).mkdir(exist_ok=True)
        return Bundle(self.folder / version, version, "osnet_x0_25", "avg", 512, (64, 32))


def go_live(store: Store, candidate: str, meanwhile: dict[str, str]) -> tuple[str, bool]:
    """What was live before, and whether the candidate is, where others are promoted while models are scored."""

    def score(bundle: Bundle) -> Any:
        if bundle.version in meanwhile:
            Store(store.folder).promote(meanwhile.pop(bundle.version))
        return SimpleNamespace(score=SCORES[bundle.version])

    live, decision = _go_live(store, store.load("start"), store.load(candidate), score)
    return live.version, decision.promoted


@pytest.mark.parametrize(
    ("before", "candidate", "meanwhile", "found", "history"),
    [
        ([], "good", {}, ("start", True), ["start", "good"]),
        (["start"], "good", {}, ("start", True), ["start", "good"]),
        (["start"], "start", {}, ("start", True), ["start"]),
        (["best"], "good", {}, ("best", False), ["best"]),
        ([], "good", {"start": "best"}, ("best", False), ["best"]),
        (["start"], "good", {"start": "best"}, ("best", False), ["start", "best"]),
        (["best"], "good", {"best": "start"}, ("start", True), ["best", "start", "good"]),
        (["start"], "good", {"start": "good"}, ("good", True), ["start", "good"]),
    ],
)
def test_a_model_is_judged_against_the_one_it_takes_the_place_of(
    tmp_path: Path,
    before: list[str],
    candidate: str,
    meanwhile: dict[str, str],
    found: tuple[str, bool],
    history: list[str],
) -> None:
    """Also where that went live while it was judged against another."""
    store = Store(tmp_path)
    for version in before:
        store.promote(version)
    assert go_live(store, candidate, meanwhile) == found
    assert store.history() == history
    assert meanwhile == {}
