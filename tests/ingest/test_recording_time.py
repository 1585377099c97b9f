"""When a recording began."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.recording_time import TimePatternError, compile_time_pattern, resolve_start, time_from_filename

BERLIN = ZoneInfo("Europe/Berlin")

moments = st.datetimes(min_value=datetime(1991, 1, 1), max_value=datetime(2068, 12, 31)).map(
    lambda moment: moment.replace(microsecond=0)
)


@given(moments)
def test_what_strftime_writes_is_read_back(moment: datetime) -> None:
    for pattern in ("cam_%Y-%m-%d_%H-%M-%S.mp4", "%Y%m%d%H%M%S", "%y%m%d-%H%M%S", "%j.%Y %H%M%S"):
        if "%y" in pattern and moment.year < 2000:
            continue
        name = f"x {moment.strftime(pattern)} y"
        assert time_from_filename(name, pattern, ZoneInfo("UTC")) == (moment.replace(tzinfo=UTC), False)


@given(moments)
def test_regular_expression_says_the_same_as_strptime(moment: datetime) -> None:
    name = moment.strftime("a%Y_%m_%dT%H.%M.%S")
    expression = r"(?P<year>\d{4})_(?P<month>\d\d)_(?P<day>\d\d)T(?P<hour>\d\d)\.(?P<minute>\d\d)\.(?P<second>\d\d)"
    zone = ZoneInfo("Europe/Berlin")
    assert time_from_filename(name, expression, zone) == time_from_filename(name, "%Y_%m_%dT%H.%M.%S", zone)


def test_names_are_read_in_the_sites_timezone() -> None:
    found = time_from_filename("20260701_120000", "%Y%m%d_%H%M%S", BERLIN)
    assert found == (datetime(2026, 7, 1, 10, tzinfo=UTC), False)


@pytest.mark.parametrize(
    ("name", "hint", "hour", "guessed"),
    [
        ("20251026_015959", None, "2025-10-25T23:59:59", False),
        ("20251026_020000", None, "2025-10-26T00:00:00", True),  # 2:00 to 3:00 came twice
        ("20251026_025959", None, "2025-10-26T00:59:59", True),
        ("20251026_025959", "2025-10-26T01:00:10", "2025-10-26T00:59:59", False),
        ("20251026_023000", "2025-10-26T01:31:00", "2025-10-26T01:30:00", False),
        ("20251026_023000", "2025-10-26T00:29:00", "2025-10-26T00:30:00", False),
        ("20251026_030000", None, "2025-10-26T02:00:00", False),
        ("20260329_015959", None, "2026-03-29T00:59:59", False),
        ("20260329_023000", None, "2026-03-29T01:30:00", False),  # 2:00 to 3:00 never came: a clock not yet set
        ("20260329_030000", None, "2026-03-29T01:00:00", False),
    ],
)
def test_clocks_are_set_back_and_forth(name: str, hint: str | None, hour: str, guessed: bool) -> None:
    known = None if hint is None else datetime.fromisoformat(hint).replace(tzinfo=UTC)
    found = time_from_filename(name, "%Y%m%d_%H%M%S", BERLIN, known)
    assert found == (datetime.fromisoformat(hour).replace(tzinfo=UTC), guessed)


@pytest.mark.parametrize("written", ["20251026_023000+0100", "20251026_023000+01:00", "20251026_013000Z"])
def test_an_offset_in_the_name_leaves_nothing_to_guess(written: str) -> None:
    found = time_from_filename(f"cam_{written}.mp4", "cam_%Y%m%d_%H%M%S%z", BERLIN)
    assert found == (datetime(2025, 10, 26, 1, 30, tzinfo=UTC), False)


def test_fraction_and_epoch() -> None:
    utc = ZoneInfo("UTC")
    found = time_from_filename("20260101T000000.25", "%Y%m%dT%H%M%S.%f", utc)
    assert found == (datetime(2026, 1, 1, 0, 0, 0, 250000, UTC), False)
    assert time_from_filename("v1700000000.mp4", "%s", utc) == (datetime.fromtimestamp(1700000000, UTC), False)
    assert time_from_filename("v1700000000123.mp4", "%s", utc) is None, "milliseconds are no seconds"


@pytest.mark.parametrize("name", ["20261301", "20260230", "no digits", ""])
def test_an_impossible_or_absent_date_is_unknown(name: str) -> None:
    assert time_from_filename(name, "%Y%m%d", ZoneInfo("UTC")) is None


@given(st.text(max_size=60))
def test_no_name_breaks_it(name: str) -> None:
    for pattern in ("%Y%m%d", "%j%y", "%s", "%Y-%m-%d %H:%M:%S.%f"):
        found = time_from_filename(name, pattern, ZoneInfo("Asia/Tokyo"))
        assert found is None or found[0].tzinfo is UTC


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("%Q", "not known"),
        ("(", "not a valid"),
        ("cam", "no full date"),
        ("%Y%m", "no full date"),
        ("%", "not known"),
        (r"(?P<years>\d+)", "unknown group"),
    ],
)
def test_wrong_patterns_are_explained(pattern: str, says: str) -> None:
    with pytest.raises(TimePatternError, match=re.escape(says)):
        compile_time_pattern(pattern)


def test_sources_and_their_order() -> None:
    utc = ZoneInfo("UTC")
    container, stated = datetime(2026, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)

    def resolve(source: str, **changes: object) -> tuple[datetime | None, str]:
        values = {
            "source": source,
            "name": "20240101",
            "pattern": "%Y%m%d",
            "timezone": utc,
            "creation_time": container,
            "stated": None,
            "offset_s": 0.0,
            **changes,
        }
        found = resolve_start(**values)  # type: ignore[arg-type]
        return found.utc, found.source

    assert resolve("container") == (container, "container")
    assert resolve("filename") == (datetime(2024, 1, 1, tzinfo=UTC), "filename")
    assert resolve("container", stated=stated) == (stated, "start")
    assert resolve("container", offset_s=-1.5) == (container - timedelta(seconds=1.5), "container")
    assert resolve("container", creation_time=None) == (None, "unknown")
    assert resolve("filename", name="x") == (None, "unknown")
    # The zero of a container's calendar is no date.
    assert resolve("container", creation_time=datetime(1970, 1, 1, tzinfo=UTC)) == (None, "unknown")
    assert resolve("container", offset_s=1e18) == (None, "unknown")
