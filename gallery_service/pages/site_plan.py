"""The map of an investigation: cameras where they hang, how often each saw the person, and the ways between them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gallery_service.investigations.schemas import Timeline


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
    """From one camera to another, `times` times; ends in per cent of the picture."""

    x1: float
    y1: float
    x2: float
    y2: float
    times: int
    label: str


@dataclass(frozen=True)
class Plan:
    """What is drawn over the site's map."""

    map_url: str
    cameras: list[PlanCamera]
    ways: list[PlanWay]


def draw_plan(timeline: Timeline) -> Plan | None:
    """Lay out an investigation on the map; None when the site has no map."""
    if timeline.map_url is None:
        return None
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
    placed = {camera.camera_id: camera for camera in cameras}
    counted = Counter((move.begin_camera, move.end_camera) for move in timeline.moves)
    ways = [
        PlanWay(
            x1=placed[begin].x,
            y1=placed[begin].y,
            x2=placed[end].x,
            y2=placed[end].y,
            times=times,
            label=f"{begin} to {end}, {times} time{'' if times == 1 else 's'}",
        )
        for (begin, end), times in counted.items()
        if begin in placed and end in placed
    ]
    return Plan(timeline.map_url, cameras, ways)
