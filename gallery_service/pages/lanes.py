"""Sightings on a time axis, a lane for each camera: where the bars and the labels of the drawing lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gallery_service.pages.site_clock import SiteClock

_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_MOST_TICKS = 6
_LEAST_WIDTH = 0.4  # per cent: shorter sightings would not be seen


@dataclass(frozen=True)
class Sighting:
    """Somebody seen by a camera.

    Attributes:
        camera_id: where.
        first_seen, last_seen: RFC 3339.
        href: what a click leads to.
        label: for people who cannot see the drawing.
        weight: 0..1, how strongly it is drawn.
    """

    camera_id: str
    first_seen: str
    last_seen: str
    href: str
    label: str
    weight: float = 1.0


@dataclass(frozen=True)
class Bar:
    """A sighting in the drawing; `left` and `width` in per cent of the axis."""

    sighting: Sighting
    left: float
    width: float


@dataclass(frozen=True)
class Lane:
    """A camera's sightings."""

    camera_id: str
    bars: list[Bar]


@dataclass(frozen=True)
class Lanes:
    """The drawing: lanes from top to bottom, and ticks as (per cent, label)."""

    lanes: list[Lane]
    ticks: list[tuple[float, str]]
    days: str


def draw_lanes(sightings: Sequence[Sighting], cameras: Sequence[str], clock: SiteClock) -> Lanes | None:
    """Lay out sightings.

    Args:
        sightings: of known time, in any order.
        cameras: the order of lanes; those without a sighting have none.
        clock: the site's.

    Returns:
        None when there is nothing to draw.
    """
    if not sightings:
        return None
    begin = min(_seconds(one.first_seen) for one in sightings)
    end = max(_seconds(one.last_seen) for one in sightings)
    margin = max(0.5, (end - begin) * 0.02)
    begin, end = begin - margin, end + margin
    length = end - begin

    def place(seconds: float) -> float:
        return round(100 * (seconds - begin) / length, 3)

    lanes = []
    for camera_id in cameras:
        bars = []
        for one in sightings:
            if one.camera_id == camera_id:
                left, right = place(_seconds(one.first_seen)), place(_seconds(one.last_seen))
                bars.append(Bar(one, left, round(max(_LEAST_WIDTH, right - left), 3)))
        if bars:
            # The strongest is drawn last and so lies on top.
            lanes.append(Lane(camera_id, sorted(bars, key=lambda bar: bar.sighting.weight)))
    step = next((step for step in _STEPS_S if length / step <= _MOST_TICKS), 86400 * (int(length / 86400 / 6) + 1))
    form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86400 else "%d %b"
    ticks = [(place(at), f"{clock.local(_at(at)):{form}}") for at in _ticks(begin, end, step, clock)]
    first, last = clock.day(_at(begin)), clock.day(_at(end))
    return Lanes(lanes, ticks, first if first == last else f"{first} – {last}")


def _ticks(begin: float, end: float, step: int, clock: SiteClock) -> Iterator[float]:
    """Every so many seconds since midnight, or, of whole days, at midnight: not all days have as many seconds."""
    local = clock.local(_at(begin))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if step < 86400:
        at = begin + -(local - midnight).total_seconds() % step
        while at < end:
            yield at
            at += step
    else:
        day = midnight if midnight == local else midnight + timedelta(seconds=step)  # as the clock shows it
        while day.timestamp() < end:
            yield day.timestamp()
            day += timedelta(seconds=step)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _at(seconds: float) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat()
