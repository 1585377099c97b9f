"""Filters against the plain statement of what they mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gallery_service.errors import BadQuery
from gallery_service.search.filters import (
    NO_TIME,
    FilterColumns,
    SearchFilters,
    format_moment,
    make_filters,
    parse_moment,
)

CAMERAS = ["a", "b", "c"]
TIMES = st.none() | st.integers(0, 20)
QUALITIES = st.none() | st.integers(0, 8).map(lambda eighths: eighths / 8)
Row = tuple[int, int | None, int | None, float | None]  # camera, first and last seen, quality


@st.composite
def tracklets(draw: st.DrawFn) -> list[Row]:
    rows = []
    for _ in range(draw(st.integers(0, 12))):
        first = draw(TIMES)
        last = None if first is None else first + draw(st.integers(0, 6))
        rows.append((draw(st.integers(0, 2)), first, last, draw(QUALITIES)))
    return rows


@given(
    tracklets(),
    st.sets(st.sampled_from(CAMERAS)),
    st.sets(st.sampled_from(CAMERAS)),
    st.none() | st.sets(st.sampled_from([*CAMERAS, "elsewhere"])),
    TIMES,
    TIMES,
    QUALITIES,
    st.data(),
)
def test_lets_through_what_it_says(
    rows: list[Row],
    cameras: set[str],
    excluded: set[str],
    seen: set[str] | None,
    since: int | None,
    until: int | None,
    min_quality: float | None,
    data: st.DataObject,
) -> None:
    ids = [f"t{number:02d}" for number in range(len(rows))]
    left_out = data.draw(st.frozensets(st.sampled_from([*ids, "absent"])))
    columns = FilterColumns(
        ids,
        CAMERAS,
        np.array([row[0] for row in rows], np.int32),
        np.array([NO_TIME if row[1] is None else row[1] for row in rows], np.int64),
        np.array([NO_TIME if row[2] is None else row[2] for row in rows], np.int64),
        np.array([np.nan if row[3] is None else row[3] for row in rows], np.float32),
    )
    filters = SearchFilters(frozenset(cameras), frozenset(excluded), since, until, min_quality, left_out)
    allowed = columns.allowed(filters, seen)
    for number, (camera, first, last, quality) in enumerate(rows):
        passes = (not cameras or CAMERAS[camera] in cameras) and CAMERAS[camera] not in excluded
        if since is not None or until is not None:
            passes = passes and first is not None and last is not None
        if passes and since is not None:
            assert last is not None
            passes = last >= since
        if passes and until is not None:
            assert first is not None
            passes = first <= until
        if min_quality is not None:
            passes = passes and quality is not None and quality >= min_quality
        passes = passes and ids[number] not in left_out and (seen is None or CAMERAS[camera] in seen)
        assert (allowed is None or bool(allowed[number])) == passes


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_moments_survive_exactly(naive: datetime, minutes: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    parsed = parse_moment(moment.isoformat(), "since")
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=parsed) == moment
    written = format_moment(parsed)
    assert written is not None
    assert parse_moment(written, "since") == parsed


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-03-01T08:00:00 01:00", "2026-03-01T07:00:00Z"),  # a + that was not escaped in an address
        ("2026-03-01t08:00:00.5z", "2026-03-01T08:00:00.500Z"),
        ("2026-03-01 08:00:00-05:30", "2026-03-01T13:30:00Z"),
    ],
)
def test_ways_of_writing_a_moment(text: str, same: str) -> None:
    assert parse_moment(text, "since") == parse_moment(same, "since")


@pytest.mark.parametrize(
    "text",
    ["2026-03-01T08:00:00", "2026-03-01", "yesterday", "1772352000", "2026-13-01T00:00:00Z", "2026-03-01T25:00:00Z",
     "2026-03-01T08:00:00+99:00", "²026-03-01T08:00:00Z", "2026-03-01T08:00:00Z\n2026", "9" * 5000,
     "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00"],
)  # fmt: skip
def test_what_is_no_moment_is_named(text: str) -> None:
    with pytest.raises(BadQuery, match=r"since.*RFC 3339"):
        parse_moment(text, "since")


def test_cameras_are_written_repeated_or_with_commas() -> None:
    assert make_filters(CAMERAS, ["a,b", "c", ""]).cameras == {"a", "b", "c"}


def test_an_unknown_camera_is_named_with_the_known_ones() -> None:
    with pytest.raises(BadQuery, match="no camera 'x'; it has a, b, c"):
        make_filters(CAMERAS, exclude_cameras=["a,x"])


@pytest.mark.parametrize("quality", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_quality_that_is_none_is_refused(quality: float) -> None:
    with pytest.raises(BadQuery, match="min_quality"):
        make_filters(CAMERAS, min_quality=quality)


def test_a_span_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(BadQuery, match="swap"):
        make_filters(CAMERAS, since="2026-03-01T08:00:01Z", until="2026-03-01T08:00:00Z")
