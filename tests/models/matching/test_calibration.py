"""models.matching.calibration: probabilities are probabilities, levels are what a plain reading of them says."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.matching.calibration import (
    Calibration,
    CalibrationError,
    LookAlikes,
    calibration_json,
    read_calibration,
)

RANKS = LookAlikes(first_rank=3, last_rank=6, depth=40, camera_size=25.5)
EXAMPLE = Calibration(slope=12.5, intercept=-4.0, look_alikes=RANKS, queries=120, expected_right=0.25)

cosines = st.floats(-1, 1)


@given(
    slope=st.floats(0, 1e9, exclude_min=True),
    intercept=st.floats(-1e9, 1e9),
    level=cosines,
    pair=st.tuples(cosines, cosines),
)
def test_probabilities_lie_in_0_to_1_and_rise_with_the_cosine(
    slope: float, intercept: float, level: float, pair: tuple[float, float]
) -> None:
    found = Calibration(slope, intercept, RANKS, 1, 0.5).probability(np.array(sorted(pair)), np.array([level, level]))
    assert np.isfinite(found).all()
    assert 0 <= found[0] <= found[1] <= 1


@given(cosine=cosines, levels=st.tuples(cosines, cosines))
def test_more_look_alikes_make_a_match_less_likely(cosine: float, levels: tuple[float, float]) -> None:
    low, high = EXAMPLE.probability(np.array([cosine, cosine]), np.array(sorted(levels)))
    assert high <= low


def test_the_probability_is_the_logistic_function_of_the_margin() -> None:
    found = EXAMPLE.probability(np.array([0.9, 0.5]), np.array([0.4, 0.5]))
    assert found == pytest.approx([1 / (1 + math.exp(-(12.5 * 0.5 - 4))), 1 / (1 + math.exp(4))])


def test_an_unknown_level_leaves_the_probability_unknown() -> None:
    assert np.isnan(EXAMPLE.probability(np.array([0.9]), np.array([np.nan]))).all()


def nearest(draw: np.random.Generator, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return np.sort(draw.uniform(-1, 1, count))[::-1], draw.integers(0, 4, count)


@given(seed=st.integers(0, 10_000), count=st.integers(0, 60), first=st.integers(1, 4), more=st.integers(0, 5))
def test_levels_are_the_means_of_a_cameras_ranks(seed: int, count: int, first: int, more: int) -> None:
    found, cameras = nearest(np.random.default_rng(seed), count)
    ranks = LookAlikes(first, first + more, 100, 1.0)
    asked = np.array([2, 0, 2, 9])
    for camera, level in zip(asked, ranks.levels(found, cameras, asked), strict=True):
        own = [cosine for cosine, seen_by in zip(found, cameras, strict=True) if seen_by == camera]
        plain = [own[rank - 1] for rank in range(first, first + more + 1) if rank <= len(own)]
        assert (math.isnan(level) and not plain) or level == pytest.approx(np.mean(plain))


@given(seed=st.integers(0, 10_000), depth=st.integers(6, 80))
def test_a_shorter_look_never_makes_a_match_likelier(seed: int, depth: int) -> None:
    found, cameras = nearest(np.random.default_rng(seed), 200)
    asked = np.arange(4)
    exact = LookAlikes(3, 6, 201, 1.0).levels(found, cameras, asked)
    short = LookAlikes(3, 6, depth, 1.0).levels(found[:depth], cameras[:depth], asked)
    assert (short >= exact - 1e-12).all()


@given(first=st.integers(1, 30), more=st.integers(0, 30), deeper=st.integers(0, 500), size=st.floats(0.1, 1e6))
def test_ranks_shrink_with_the_gallery_and_do_not_grow_with_it(first: int, more: int, deeper: int, size: float) -> None:
    ranks = LookAlikes(first, first + more, first + more + deeper, 1000.0)
    scaled = ranks.within(size)
    if size >= 1000:
        assert scaled == ranks
    else:
        assert scaled.last_rank == max(1, round(ranks.last_rank * size / 1000))
        assert scaled.first_rank <= ranks.first_rank and scaled.depth <= ranks.depth


def test_calibration_json_round_trips_through_text() -> None:
    for calibration in (EXAMPLE, None):
        assert read_calibration(json.loads(json.dumps(calibration_json(calibration)))) == calibration
    assert calibration_json(None) == {"schema": 1, "calibrated": False}, "what bundles held before there was any"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schema": 2}, "schema 2"),
        ({"calibrated": "yes"}, "calibrated"),
        ({"slope": -1.0}, "slope"),
        ({"slope": True}, "slope"),
        ({"slope": math.nan}, "slope"),
        ({"intercept": math.inf}, "intercept"),
        ({"intercept": "1"}, "intercept"),
        ({"queries": 1.5}, "queries"),
        ({"look_alikes": [1, 2, 3]}, "look_alikes"),
        ({"look_alikes": {"first_rank": 0, "last_rank": 2, "depth": 9, "camera_size": 5}}, "first_rank"),
        ({"look_alikes": {"first_rank": 3, "last_rank": 2, "depth": 9, "camera_size": 5}}, "first_rank"),
        ({"look_alikes": {"first_rank": 1, "last_rank": 10, "depth": 9, "camera_size": 5}}, "depth"),
        ({"look_alikes": {"first_rank": 1, "last_rank": 2, "camera_size": 5}}, "depth"),
        ({"look_alikes": {"first_rank": 1, "last_rank": 2, "depth": 9}}, "camera_size"),
        ({"look_alikes": {"first_rank": 1, "last_rank": 2, "depth": 9, "camera_size": 0}}, "camera_size"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(CalibrationError, match=named):
        read_calibration({**EXAMPLE.as_json(), **change})
