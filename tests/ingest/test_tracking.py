"""Tracks: one per person, none across a pause, and the detector's own boxes."""

from __future__ import annotations

import numpy as np

from ingest.detection import Detections
from ingest.tracking import LOST_AFTER_S, Tracker

FPS = 10.0


def detections(*boxes: tuple[float, float], score: float = 0.9) -> Detections:
    """People 30×80 at these upper left corners."""
    return Detections(
        np.asarray([[x, y, x + 30, y + 80] for x, y in boxes], np.float32).reshape(-1, 4),
        np.full(len(boxes), score, np.float32),
    )


def follow(tracker: Tracker, frames: list[Detections], start: float = 0.0) -> list[list[tuple[int, int]]]:
    return [
        [(entry.track, entry.detection) for entry in tracker.update(found, start + i / FPS)]
        for i, found in enumerate(frames)
    ]


def test_two_people_two_tracks() -> None:
    frames = [detections((10 + 3 * i, 50), (300 - 3 * i, 120)) for i in range(40)]
    seen = follow(Tracker(FPS, 0.25), frames)
    assert seen == [[(1, 0), (2, 1)]] * 40


def test_the_detection_is_named_whatever_its_place() -> None:
    frames = [detections((10 + 3 * i, 50), (300 - 3 * i, 120)) for i in range(10)]
    swapped = [Detections(f.boxes[::-1], f.scores[::-1]) if i % 2 else f for i, f in enumerate(frames)]
    for i, linked in enumerate(follow(Tracker(FPS, 0.25), swapped)):
        assert dict(linked) == ({1: 1, 2: 0} if i % 2 else {1: 0, 2: 1})


def test_a_low_score_continues_a_track_and_starts_none() -> None:
    frames = [detections((10, 50))] * 3 + [detections((10, 50), (300, 50), score=0.15)] * 3
    assert follow(Tracker(FPS, 0.25), frames) == [[(1, 0)]] * 6


def test_a_short_absence_is_bridged_a_long_one_is_not() -> None:
    there, gone = detections((10, 50)), Detections.none()
    short, long = round(LOST_AFTER_S * FPS / 2), round(LOST_AFTER_S * FPS * 2)
    seen = follow(Tracker(FPS, 0.25), [there] * 5 + [gone] * short + [there] * 5)
    assert {track for linked in seen for track, _ in linked} == {1}
    seen = follow(Tracker(FPS, 0.25), [there] * 5 + [gone] * long + [there] * 5)
    assert len({track for linked in seen for track, _ in linked}) == 2


def test_a_pause_in_the_recording_ends_all_tracks() -> None:
    tracker = Tracker(FPS, 0.25)
    before = follow(tracker, [detections((10, 50))] * 5)
    after = follow(tracker, [detections((10, 50))] * 5, start=60.0)
    tracks = [{track for linked in part for track, _ in linked} for part in (before, after)]
    assert tracks[0].isdisjoint(tracks[1])
    assert len(tracks[1]) == 1


def test_ids_start_again_for_every_recording() -> None:
    frames = [detections((10 + 3 * i, 50)) for i in range(5)]
    assert follow(Tracker(FPS, 0.25), frames) == follow(Tracker(FPS, 0.25), frames)
