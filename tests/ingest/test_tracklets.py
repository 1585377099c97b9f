"""Which crops of a tracklet are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.tracklets import BINS, ENOUGH_CROPS, PATH_POINTS, BestPerBin, Crop, OpenTracklet, Sighting

BOX = np.asarray([0, 0, 10, 50], np.float32)


def sighting(t: float) -> Sighting:
    return Sighting(round(t * 20), t, BOX, 0.9)


def kept(times: list[float], qualities: list[float], count: int) -> tuple[list[Crop], int]:
    reservoir = BestPerBin(times[0], 0.1)
    encoded = 0

    def encode() -> bytes:
        nonlocal encoded
        encoded += 1
        return b"jpeg"

    for t, quality in zip(times, qualities, strict=True):
        reservoir.offer(sighting(t), quality, encode)
        assert len(reservoir) <= BINS
    return reservoir.spread(count), encoded


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 12), st.randoms(use_true_random=False))
def test_spread_over_the_whole_length_whatever_it_is(length: int, count: int, random) -> None:
    times = [i / 10 for i in range(length)]
    qualities = [random.uniform(0.5, 1) for _ in times]  # none is poor
    crops, _ = kept(times, qualities, count)
    assert len(crops) == min(count, length)
    at = [crop.sighting.pts_s for crop in crops]
    assert at == sorted(set(at))
    best = max(range(length), key=lambda i: qualities[i])
    assert times[best] in at  # the best one is never lost
    # In every part of the length there is one: no two neighbours further apart than two parts and a bin.
    duration = times[-1]
    if count >= 2 and duration > 0:
        bin_width = max(0.1, 4 * duration / BINS)
        gaps = np.diff([0.0, *at, duration])
        assert gaps.max() <= 2 * duration / count + bin_width


def test_the_best_of_each_part_is_taken() -> None:
    times = [i / 10 for i in range(80)]
    qualities = [0.9 if i % 10 == 7 else 0.5 for i in range(80)]
    crops, _ = kept(times, qualities, 8)
    assert [crop.quality for crop in crops] == [0.9] * 8


def test_work_stays_small() -> None:
    # Quality of a person who walks by rises and falls; only winners are encoded.
    times = [i / 10 for i in range(20_000)]
    _, encoded = kept(times, [0.5] * 20_000, 8)
    assert encoded < 500


def test_poor_crops_go_but_enough_stay() -> None:
    times = [i / 10 for i in range(8)]
    crops, _ = kept(times, [0.9, 0.8, 0.0, 0.7, 0.9, 0.1, 0.8, 0.2], 8)
    assert [crop.quality for crop in crops] == [0.9, 0.8, 0.7, 0.9, 0.8]
    crops, _ = kept(times, [0.9, 0, 0, 0, 0, 0, 0, 0], 8)
    assert len(crops) == ENOUGH_CROPS
    assert max(crop.quality for crop in crops) == 0.9


@given(st.integers(1, 5000))
@settings(max_examples=20, deadline=None)
def test_path_is_bounded_and_reaches_from_end_to_end(length: int) -> None:
    tracklet = OpenTracklet(3, 0.1, 5)
    for i in range(length):
        tracklet.add(sighting(i / 10))
    done = tracklet.finish(8)
    times = [point.pts_s for point in done.path]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (0, (length - 1) / 10)
    assert len(times) <= PATH_POINTS + 1
    if 10 <= length <= 900:
        # The last sighting is added wherever it falls.
        assert np.diff(times[:-1]).max(initial=0) <= 0.5 + 1e-6
    assert (done.first.pts_s, done.last.pts_s, done.detections) == (0, times[-1], length)
    assert done.crops == []


def test_an_empty_tracklet_is_none() -> None:
    with pytest.raises(ValueError, match="sighting"):
        OpenTracklet(1, 0.1, 5).finish(8)


def test_unclear_sightings_count_only_where_clear_ones_are_few() -> None:
    for clear_ones, expected in ((6, 6), (5, 5), (4, 24), (0, 20)):
        open_ = OpenTracklet(1, 0.1, 5)
        for n in range(20 + clear_ones):
            clear = n % 2 == 1 and n // 2 < clear_ones
            seen = sighting(n / 10)
            open_.add(seen, clear=clear)
            open_.offer_crop(seen, 0.5, lambda: b"jpeg", clear=clear)
        finished = open_.finish(8)
        assert (finished.detections, finished.clear) == (expected, clear_ones >= 5)
        times = [point.pts_s for point in finished.path]
        assert times == sorted(set(times))
        assert (finished.first.pts_s, finished.last.pts_s) == (times[0], times[-1])
        assert 0 < len(finished.crops) <= 8
        if finished.clear:
            assert all(round(crop.sighting.pts_s * 10) % 2 == 1 for crop in finished.crops)
