from __future__ import annotations

import pytest

from gallery_service.errors import BadQuery
from gallery_service.pages.site_clock import SiteClock


@pytest.mark.parametrize(
    ("zone", "local", "earliest", "latest"),
    [
        ("Europe/Berlin", "2026-03-01T09:00", "2026-03-01T08:00:00Z", None),
        ("Europe/Berlin", "2026-07-01T09:00:30", "2026-07-01T07:00:30Z", None),
        ("Europe/Berlin", "2026-03-29T03:30", "2026-03-29T01:30:00Z", None),  # an hour after summer time began
        ("America/Los_Angeles", "2026-11-01T00:30", "2026-11-01T07:30:00Z", None),
        ("Asia/Kolkata", "2026-01-01T00:00", "2025-12-31T18:30:00Z", None),
        ("UTC", "2026-01-01T00:00", "2026-01-01T00:00:00Z", None),
        # Shown twice, when summer time ends; never shown, when it begins.
        ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
        ("Europe/Berlin", "2026-03-29T02:30", "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"),
    ],
)
def test_what_the_clock_shows_as_a_moment(zone: str, local: str, earliest: str, latest: str | None) -> None:
    clock = SiteClock(zone)
    assert clock.earliest(local, "From") == earliest
    assert clock.latest(local, "To") == (latest or earliest).replace("Z", ".999999Z")


@pytest.mark.parametrize("given", ["", "today", "2026-13-01T00:00", "2026-01-01T00:00Z", "0001-01-01T00:00", "9" * 99])
def test_what_is_no_time_is_named(given: str) -> None:
    with pytest.raises(BadQuery, match=r"^From: .* no date and time"):
        SiteClock("Asia/Tokyo").earliest(given, "From")


def test_spans_in_words() -> None:
    clock = SiteClock("Europe/Berlin")
    assert clock.span("2026-03-01T08:00:00.5Z", "2026-03-01T08:00:09Z") == ("1 Mar 2026", "09:00:00 – 09:00:09")
    assert clock.span("2026-03-01T08:00:00Z", "2026-03-01T08:00:00.9Z") == ("1 Mar 2026", "09:00:00")
    assert clock.span("2026-03-01T22:59:59Z", "2026-03-01T23:00:01Z") == (
        "1 Mar 2026, 23:59:59 –",
        "2 Mar 2026, 00:00:01",
    )
    assert clock.span(None, None) == ("Time unknown", "")
