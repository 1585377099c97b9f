"""When a track is cut, when a tracklet is taken up again, and which sightings count."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.appearance import appearance, difference
from ingest.tracking import Tracked
from ingest.tracklet_linking import ODD_SIGHTINGS, Linked, TrackletLinker

RED, BLUE, GREEN = (40, 40, 200), (200, 60, 40), (60, 180, 60)  # BGR
STEP = 0.1


def person(colour: tuple[int, int, int], seed: int = 0) -> NDArray[np.float32]:
    """The appearance of somebody in that colour, with some noise."""
    noise = np.random.default_rng(seed).normal(0, 6, (80, 30, 3))
    image = np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
    return appearance(image, np.asarray([0, 0, 30, 80], np.float32))


def box(x: float, y: float = 100.0, height: float = 80.0) -> list[float]:
    return [x, y - height, x + 30, y]


class Scene:
    """Feeds a linker frame by frame."""

    def __init__(self) -> None:
        self.linker = TrackletLinker(STEP)
        self.frame = 0

    def see(self, *people: tuple[int, list[float], tuple[int, int, int]], wait: int = 1) -> list[Linked]:
        """People as (track, box, colour); `wait` frames after the last call."""
        self.frame += wait
        boxes = np.asarray([where for _, where, _ in people], np.float32).reshape(-1, 4)
        looks = [person(colour, self.frame) for _, _, colour in people]
        tracked = [Tracked(track, index) for index, (track, _, _) in enumerate(people)]
        return self.linker.link(self.frame * STEP, tracked, boxes, np.ones(len(people), bool), looks.__getitem__)


def test_appearances() -> None:
    assert difference(person(RED, 1), person(RED, 2)) < 0.1
    assert difference(person(RED), person(BLUE)) > 0.3
    assert difference(person(RED), person(RED)) == pytest.approx(0, abs=1e-3)
    rows = appearance(np.zeros((5, 5, 3), np.uint8), np.asarray([1, 1, 2, 2], np.float32))  # as small as can be
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)


def test_one_person_is_one_tracklet() -> None:
    scene = Scene()
    for x in range(30):
        assert scene.see((7, box(3 * x), RED)) == [Linked(1, 0, True)]


def test_a_track_that_goes_on_with_somebody_else_is_cut() -> None:
    scene = Scene()
    for x in range(10):
        scene.see((1, box(3 * x), RED))
    for x in range(10, 10 + ODD_SIGHTINGS - 1):
        assert scene.see((1, box(3 * x), BLUE)) == []  # not believed yet
    assert scene.see((1, box(40), BLUE)) == [Linked(2, 0, True)]
    assert scene.see((1, box(43), BLUE)) == [Linked(2, 0, True)]


def test_a_moment_of_something_else_is_passed_over() -> None:
    scene = Scene()
    for x in range(10):
        scene.see((1, box(3 * x), RED))
    assert scene.see((1, box(33), BLUE)) == []
    assert scene.see((1, box(36), RED)) == [Linked(1, 0, True)]


@pytest.mark.parametrize("later", [0, 1, 2])
def test_two_tracks_that_were_exchanged_are_exchanged_back(later: int) -> None:
    """Also where the one is noticed `later` frames after the other, which was hidden meanwhile."""
    scene = Scene()
    for x in range(10):
        scene.see((1, box(10 * x), RED), (2, box(200 - 10 * x), BLUE))
    last: list[Linked] = []
    for x in range(10, 18):  # they pass each other, and each track goes on with the other one
        blue, red = (1, box(200 - 10 * x), BLUE), (2, box(10 * x), RED)
        last = scene.see(blue, red) if x >= 10 + later else scene.see(blue)
    assert {(link.tracklet, link.detection) for link in last} == {(2, 0), (1, 1)}


def test_a_lost_tracklet_goes_on_when_place_size_and_looks_agree() -> None:
    for changes, again in (
        ({}, 1),
        ({"wait": 40}, 2),  # too long ago
        ({"colour": GREEN}, 2),
        ({"where": box(300)}, 2),
        ({"where": box(110, height=40)}, 2),
    ):
        scene = Scene()
        for x in range(10):
            scene.see((1, box(5 * x), RED))
        wait, colour, where = (
            changes.get(name, usual) for name, usual in (("wait", 18), ("colour", RED), ("where", box(100)))
        )
        assert scene.see((2, where, colour), wait=wait) == [Linked(again, 0, True)], changes


def test_of_two_who_fit_alike_neither_is_taken() -> None:
    scene = Scene()
    for _ in range(10):
        scene.see((1, box(100), RED), (2, box(140), RED))
    assert scene.see((3, box(120), RED), wait=18) == [Linked(3, 0, True)]


def test_an_overlapping_box_is_unclear() -> None:
    scene = Scene()
    scene.see((1, box(0), RED), (2, box(100), BLUE))
    assert [link.clear for link in scene.see((1, box(80), RED), (2, box(100), BLUE))] == [False, False]
    boxes = np.asarray([box(80), box(100)], np.float32)
    looks = [person(RED), person(BLUE)]
    linked = scene.linker.link(0.3, [Tracked(1, 0), Tracked(2, 1)], boxes, np.asarray([True, False]), looks.__getitem__)
    assert [link.clear for link in linked] == [True, False]  # what is no person for certain hides nobody
