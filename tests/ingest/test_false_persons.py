"""Statues go, people who stand still stay."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.false_persons import LONG_S, Suspects, never_moved
from ingest.tracklets import Crop, Sighting, Tracklet
from models.images import encode_jpeg

BOX = np.asarray([100, 50, 140, 150], np.float32)


def tracklet(number: int, seconds: float, sway: float, *, drift: float = 0.0, begin: float = 0.0) -> Tracklet:
    """Seen for so many seconds; `sway` pixels by which the picture changes, `drift` by which the box wanders."""
    draws = np.random.default_rng(number)
    texture = np.random.default_rng(5).integers(30, 220, (25, 10, 3)).repeat(4, 0).repeat(4, 1).astype(np.float64)
    sightings, crops = [], []
    for part in range(8):
        moved = BOX + np.float32(drift * part / 7)
        sighting = Sighting(part, begin + seconds * part / 7, moved, 0.9)
        image = np.roll(texture, round(sway * draws.normal()), axis=1) * draws.uniform(0.7, 1.1)  # the light changes
        image = np.clip(image + draws.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
        sightings.append(sighting)
        crops.append(Crop(sighting, 0.5, encode_jpeg(image, 95)))
    return Tracklet(number, sightings[0], sightings[-1], 100, 100, True, sightings, crops)


def judge(*tracklets: Tracklet) -> tuple[list[int], int]:
    suspects = Suspects()
    for one in tracklets:
        assert suspects.hold(one) == []
    people, dropped = suspects.judge()
    return [person.number for person in people], dropped


def test_who_walks_is_no_suspect() -> None:
    assert never_moved(tracklet(1, 60, 0))
    assert never_moved(tracklet(1, 60, 3, drift=4))
    assert not never_moved(tracklet(1, 60, 0, drift=40))


def test_a_statue_is_dropped_however_often_it_was_lost() -> None:
    assert judge(tracklet(1, LONG_S + 1, 0)) == ([], 1)
    assert judge(*(tracklet(n, LONG_S / 3, 0, begin=100.0 * n) for n in range(1, 6))) == ([], 5)


@pytest.mark.parametrize("sway", [4, 8])
def test_a_person_who_stands_there_is_kept(sway: float) -> None:
    assert judge(tracklet(1, 600, sway)) == ([1], 0)


def test_what_was_seen_too_briefly_is_kept() -> None:
    assert judge(tracklet(1, LONG_S - 5, 0)) == ([1], 0)


def test_another_place_is_another_thing() -> None:
    elsewhere = tracklet(2, LONG_S - 5, 0)
    moved = [Sighting(s.frame_index, s.pts_s, s.box + np.float32(80), s.score) for s in elsewhere.path]
    away = Tracklet(2, moved[0], moved[-1], 100, 100, True, moved, elsewhere.crops)
    assert judge(tracklet(1, LONG_S - 5, 0), away) == ([1, 2], 0)


def test_memory_stays_bounded() -> None:
    suspects = Suspects()
    released = [one.number for n in range(700) for one in suspects.hold(tracklet(n, 1.0, 4, begin=n))]
    people, dropped = suspects.judge()
    assert sorted(released + [person.number for person in people]) == list(range(700))
    assert dropped == 0
    assert released
