from __future__ import annotations

from gallery_service.investigations.schemas import CameraMove, CameraSightings, Timeline
from gallery_service.pages.site_plan import PlanWay, draw_plan


def camera(name: str, position: tuple[float, float] | None, sightings: int) -> CameraSightings:
    return CameraSightings(
        camera_id=name, position=position, heading=None, sightings=sightings, first_seen=None, last_seen=None
    )


def move(begin: str, end: str) -> CameraMove:
    return CameraMove.model_validate({"from": begin, "to": end, "left": "x", "arrived": "y", "gap_s": 1.0})


def test_ways_are_counted_and_those_of_cameras_without_a_place_are_left_out() -> None:
    cameras = [camera("door", (0.25, 0.5), 2), camera("hall", (1, 0), 1), camera("yard", None, 3)]
    moves = [move("door", "hall"), move("hall", "door"), move("door", "hall"), move("hall", "yard")]
    timeline = Timeline(sightings=[], undated=[], cameras=cameras, moves=moves, map_url="/map")
    plan = draw_plan(timeline)
    assert plan is not None
    assert [(one.camera_id, one.x, one.y, one.sightings) for one in plan.cameras] == [
        ("door", 25, 50, 2),
        ("hall", 100, 0, 1),
    ]
    assert plan.ways == [
        PlanWay(25, 50, 100, 0, 2, "door to hall, 2 times"),
        PlanWay(100, 0, 25, 50, 1, "hall to door, 1 time"),
    ]
    assert draw_plan(timeline.model_copy(update={"map_url": None})) is None
