from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gallery_service.pages.lanes import Sighting, draw_lanes
from gallery_service.pages.site_clock import SiteClock

START = datetime(2026, 3, 28, 22, 0, tzinfo=UTC)  # the night summer time begins in Berlin
CLOCK = SiteClock("Europe/Berlin")


def sighting(camera: str, begin_s: float, length_s: float, weight: float = 1.0) -> Sighting:
    first = START + timedelta(seconds=begin_s)
    last = first + timedelta(seconds=length_s)
    return Sighting(camera, first.isoformat(), last.isoformat(), "#x", "x", weight)


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.floats(0, 4e5), st.floats(0, 4e4), st.floats(0, 1)), min_size=1
    )
)
def test_bars_keep_order_proportion_and_the_drawing(rows: list[tuple[str, float, float, float]]) -> None:
    drawing = draw_lanes([sighting(*row) for row in rows], ["c", "b", "a"], CLOCK)
    assert drawing is not None
    assert [lane.camera_id for lane in drawing.lanes] == [name for name in "cba" if name in {row[0] for row in rows}]
    bars = [bar for lane in drawing.lanes for bar in lane.bars]
    assert len(bars) == len(rows)
    assert all(0 <= bar.left < bar.left + bar.width <= 100.5 for bar in bars)
    moments = sorted((datetime.fromisoformat(bar.sighting.first_seen), bar.left) for bar in bars)
    assert [left for _, left in moments] == sorted(left for _, left in moments)
    assert all(0 <= left <= 100 for left, _ in drawing.ticks)
    assert len(drawing.ticks) <= 7


def test_ticks_are_round_times_of_the_sites_clock() -> None:
    drawing = draw_lanes([sighting("a", 2, 10), sighting("a", 50, 8)], ["a"], CLOCK)
    assert drawing is not None
    assert [label for _, label in drawing.ticks] == [f"23:00:{second}" for second in (10, 20, 30, 40, 50)]
    assert drawing.days == "28 Mar 2026"
    assert draw_lanes([], ["a"], CLOCK) is None


def test_a_days_tick_is_at_its_midnight_also_after_the_clock_was_set() -> None:
    for zone, first in (("Europe/Berlin", "2026-10-23"), ("Europe/Berlin", "2026-03-27"), ("UTC", "2026-10-23")):
        clock = SiteClock(zone)
        begin = datetime.fromisoformat(f"{first}T12:00").replace(tzinfo=ZoneInfo(zone))
        noons = [begin + timedelta(days=day) for day in range(6)]
        seen = [Sighting("a", noon.isoformat(), noon.isoformat(), "#x", "x") for noon in noons]
        drawing = draw_lanes(seen, ["a"], clock)
        assert drawing is not None
        bars = [bar.left for bar in drawing.lanes[0].bars]
        assert [label for _, label in drawing.ticks] == [f"{noon:%d %b}" for noon in noons[1:]]
        for (at, _), (before, after) in zip(drawing.ticks, pairwise(bars), strict=True):
            assert at == pytest.approx((before + after) / 2, abs=0.6), "half an hour of six days"
