"""The map of an investigation: cameras where they hang, how often each saw the person, and the ways between them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gallery_service.investigations.schemas import Timeline

_BEND = 0.22  # of the distance, how far the middle of a way lies beside the line
_CLEAR = 3.2  # left free round a camera


@dataclass(frozen=True)
class PlanCamera:
    """A camera on the map; `x` and `y` in per cent of the picture, `heading` in degrees clockwise from its top."""

    camera_id: str
    x: float
    y: float
    heading: float | None
    sightings: int


@dataclass(frozen=True)
class PlanWay:
    """From one camera to another: a curve, as SVG writes it, in units of a hundredth of the picture's width."""

    path: str
    label: str


@dataclass(frozen=True)
class Plan:
    """What is drawn over the site's map; `height` of the picture in hundredths of its width."""

    map_url: str
    height: float
    cameras: list[PlanCamera]
    ways: list[PlanWay]


def draw_plan(timeline: Timeline, map_size: tuple[int, int]) -> Plan:
    """Lay out an investigation on the site's map.

    Args:
        timeline: of a site that has a map.
        map_size: width and height of its picture, pixels.
    """
    assert timeline.map_url is not None
    height = round(100 * map_size[1] / map_size[0], 2)
    cameras = [
        PlanCamera(
            camera_id=one.camera_id,
            x=round(100 * one.position[0], 2),
            y=round(100 * one.position[1], 2),
            heading=one.heading,
            sightings=one.sightings,
        )
        for one in timeline.cameras
        if one.position is not None
    ]
    places = {camera.camera_id: complex(camera.x, camera.y * height / 100) for camera in cameras}
    counted = Counter((move.begin_camera, move.end_camera) for move in timeline.moves)
    ways = [
        PlanWay(
            _curve(places[begin], places[end], height), f"{begin} to {end}, {times} time{'' if times == 1 else 's'}"
        )
        for (begin, end), times in counted.items()
        if begin in places and end in places and places[begin] != places[end]
    ]
    return Plan(timeline.map_url, height, cameras, ways)


def _curve(begin: complex, end: complex, height: float) -> str:
    """A quadratic curve that leaves the line between the two to its right, so that the ways there and back, and those
    past a third camera on the same line, can be told apart; within the picture. It stops short of both cameras."""
    length = abs(end - begin)
    beside = (begin + end) / 2 - 1j * (end - begin) * _BEND
    middle = complex(min(99.0, max(1.0, beside.real)), min(height - 1, max(1.0, beside.imag)))
    start, stop = min(0.4, _CLEAR / length), max(0.6, 1 - _CLEAR / length)

    def at(t: float) -> complex:
        return (1 - t) ** 2 * begin + 2 * t * (1 - t) * middle + t**2 * end

    # The control point of the part between `start` and `stop`.
    control = (1 - start) * (1 - stop) * begin + (start + stop - 2 * start * stop) * middle + start * stop * end
    points = [f"{point.real:.2f} {point.imag:.2f}" for point in (at(start), control, at(stop))]
    return f"M{points[0]}Q{points[1]} {points[2]}"
