from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.coverage import SEAM, Span, covered, gaps, timeline

START = datetime(2026, 3, 1, 8, tzinfo=UTC)


def span(begin: float, end: float) -> Span:
    return START + timedelta(seconds=begin), START + timedelta(seconds=end)


def test_segments_that_follow_each_other_are_one() -> None:
    merged = covered([span(60, 120), span(0, 59), span(200, 260), span(210, 220)])
    assert merged == [span(0, 120), span(200, 260)]
    assert gaps(merged) == [span(120, 200)]
    assert (covered([]), gaps([])) == ([], [])


def test_a_timeline_shows_shares() -> None:
    assert timeline([span(0, 15), span(30, 40)], span(0, 40), 4) == pytest.approx([1.0, 0.5, 0.0, 1.0])
    assert timeline([span(0, 0)], span(0, 0), 3)[0] >= 0


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 100)), min_size=1, max_size=20))
def test_covered_and_gaps_make_the_whole(pairs: list[tuple[int, int]]) -> None:
    merged = covered([span(begin, begin + length) for begin, length in pairs])
    pieces = sorted([*merged, *gaps(merged)])
    assert all(one[1] == other[0] for one, other in pairwise(pieces))
    assert all(end - begin > SEAM for begin, end in gaps(merged))
    whole = (merged[0][0], merged[-1][1])
    seconds = sum((end - begin).total_seconds() for begin, end in merged)
    total = (whole[1] - whole[0]).total_seconds()
    if total:
        assert sum(timeline(merged, whole, 7)) / 7 * total == pytest.approx(seconds, abs=1e-3)
