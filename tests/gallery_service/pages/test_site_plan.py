from __future__ import annotations

import re

from gallery_service.investigations.schemas import CameraMove, CameraSightings, Timeline
from gallery_service.pages.site_plan import draw_plan


def camera(name: str, position: tuple[float, float] | None, sightings: int) -> CameraSightings:
    return CameraSightings(
        camera_id=name, position=position, heading=None, sightings=sightings, first_seen=None, last_seen=None
    )


def move(begin: str, end: str) -> CameraMove:
    return CameraMove.model_validate({"from": begin, "to": end, "left": "x", "arrived": "y", "gap_s": 1.0})


def test_cameras_and_ways_lie_on_the_picture() -> None:
    cameras = [camera("door", (0.25, 0.5), 2), camera("hall", (1, 0), 1), camera("yard", None, 3)]
    moves = [move("door", "hall"), move("hall", "door"), move("door", "hall"), move("hall", "yard")]
    timeline = Timeline(sightings=[], undated=[], cameras=cameras, moves=moves, map_url="/map")
    plan = draw_plan(timeline, (200, 100))
    assert plan.height == 50
    assert [(one.camera_id, one.x, one.y, one.sightings) for one in plan.cameras] == [
        ("door", 25, 50, 2),
        ("hall", 100, 0, 1),
    ]
    assert [way.label for way in plan.ways] == ["door to hall, 2 times", "hall to door, 1 time"]
    # There and back do not lie on each other: the middles are on both sides of the line from (25, 25) to (100, 0).
    sides = []
    for way in plan.ways:
        begin, x, y, end = re.fullmatch(r"M(\S+) \S+Q(\S+) (\S+) (\S+) \S+", way.path).groups()  # type: ignore[union-attr]
        sides.append((float(y) - 25) * 75 + (float(x) - 25) * 25)
        assert abs(float(end) - float(begin)) < 75
    assert sides[0] < 0 < sides[1]
