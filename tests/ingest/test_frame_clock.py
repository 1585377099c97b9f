"""Times out of timestamps, for everything that timestamps do."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.frame_clock import FrameClock

STEP = 0.05


def times(stamps: list[float | None]) -> tuple[list[float], FrameClock]:
    clock = FrameClock(STEP)
    followed = list(clock.follow((stamp, number) for number, stamp in enumerate(stamps)))
    assert [number for _, number in followed] == list(range(len(stamps)))
    return [seconds for seconds, _ in followed], clock


def regular(count: int, begin: float = 0.0) -> list[float | None]:
    return [begin + STEP * number for number in range(count)]


def test_good_timestamps_are_taken_as_they_are() -> None:
    stamps = [0.0, 0.04, 0.09, 0.5, 1.4, 1.41]
    found, clock = times(list(stamps))
    assert found == stamps
    assert (clock.estimated, clock.restarts) == (0, 0)


def test_a_pause_is_believed() -> None:
    stamps = regular(10) + regular(10, 3600.0)
    found, clock = times(stamps)
    assert found == stamps
    assert (clock.estimated, clock.restarts) == (0, 0)


@pytest.mark.parametrize("astray", [[9.0], [-7.0, 1e9], [3600.0, 3600.1, 2.0, 1e6, 5.0]])
def test_timestamps_astray_do_not_lead_the_others_away(astray: list[float]) -> None:
    stamps = regular(30)
    stamps[10 : 10 + len(astray)] = astray
    found, clock = times(stamps)
    right = regular(30)
    after = 10 + len(astray)
    assert found[:10] + found[after:] == right[:10] + right[after:]
    assert all(right[9] < seconds < right[after] for seconds in found[10:after])
    assert (clock.estimated, clock.restarts) == (len(astray), 0)


def test_missing_ones_are_filled_in() -> None:
    stamps = regular(20)
    stamps[5:8] = [None, None, float("nan")]
    found, clock = times(stamps)
    assert found == pytest.approx(regular(20))
    assert clock.estimated == 3


def test_repeated_ones_and_little_swings_stay_in_their_place() -> None:
    stamps = regular(12)
    stamps[4] = stamps[3]
    stamps[8], stamps[9] = stamps[9], stamps[8]
    found, clock = times(stamps)
    assert all(abs(one - other) <= STEP for one, other in zip(found, regular(12), strict=True))
    assert clock.restarts == 0
    assert clock.estimated == 2


@pytest.mark.parametrize("begin", [0.0, -50.0, 2e5])
def test_a_clock_that_was_set_goes_on_without_a_gap(begin: float) -> None:
    found, clock = times(regular(100, 5.0) + regular(50, begin))
    assert found == pytest.approx([5.0 + STEP * number for number in range(150)])
    assert (clock.estimated, clock.restarts) == (0, 1)


def test_what_comes_before_the_stated_beginning_begins_at_zero() -> None:
    found, clock = times(regular(10, -0.3))
    assert found == pytest.approx(regular(10))
    assert clock.estimated == 0


def test_a_first_timestamp_astray_or_far_away() -> None:
    found, clock = times([777.0, *regular(9, STEP)])
    assert found == pytest.approx(regular(10))
    assert clock.estimated == 1
    assert times(regular(3, 1e12))[0] == pytest.approx(regular(3), abs=1e-3)
    assert times(regular(3, 9.0))[0] == regular(3, 9.0)


@given(st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.floats(-10, 10), max_size=60))
def test_whatever_the_timestamps_times_grow(stamps: list[float | None]) -> None:
    found, _ = times(stamps)
    assert all(seconds >= 0 for seconds in found)
    assert all(later > earlier for earlier, later in itertools.pairwise(found))
