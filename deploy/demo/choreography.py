"""Who walks where and when.

Every walker makes one trip past the cameras, in one order or the other, with a walk of some seconds between them.
Trips are drawn one after the other; of several candidates the one is taken that crowds the cameras least, so that one
to four people are seen at once and real crossings happen, but no camera is a dense crowd.
"""

from dataclasses import dataclass

import numpy as np
from figure import Pose
from numpy.typing import NDArray
from people import Person
from scene import Route, Scene

Array = NDArray[np.float64]

CANDIDATES = 40
ROUNDS = 3
OVERLAP_COST = 8.0
SKIPPING = 0.15  # share of the walkers who leave one camera out, where there are more than two
EMPTY_START_S = 1.5  # nobody appears before: most recordings begin with an empty place, and a detector learns it


@dataclass(frozen=True)
class Walk:
    """One pass of one person through one camera's scene."""

    person_id: int
    camera: int
    start_s: float
    speed: float
    path: Array  # (n, 3): seconds since start, x, y; evenly spaced in time
    headings: Array  # (n,)
    strides: Array  # (n,) gait phase in radians
    swings: Array  # (n,) radians

    @property
    def end_s(self) -> float:
        """When it is over, in seconds of the recording."""
        return self.start_s + float(self.path[-1, 0])

    def pose(self, time_s: float) -> Pose | None:
        """Where the walker is at a moment of the recording; None when not there."""
        since = time_s - self.start_s
        if since < 0 or since > self.path[-1, 0]:
            return None
        seconds = self.path[:, 0]
        return Pose(
            x=float(np.interp(since, seconds, self.path[:, 1])),
            y=float(np.interp(since, seconds, self.path[:, 2])),
            heading=float(np.interp(since, seconds, self.headings)),
            phase=float(np.interp(since, seconds, self.strides)),
            swing=float(np.interp(since, seconds, self.swings)),
        )


STEP_S = 0.05


def make_walk(
    person: Person, person_id: int, camera: int, route: Route, start_s: float, rng: np.random.Generator
) -> Walk:
    """Walk a route, moved a little sideways and with rounded corners, at a person's own pace; one in eight stops on
    the way for a moment."""
    speed = float(np.clip(rng.normal(1.28, 0.12), 1.0, 1.6)) * (person.height / 1.72)
    corners = np.asarray(route.points) + rng.normal(0, 0.14, (len(route.points), 2))
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    fine = np.arange(0.0, lengths[-1], 0.05)
    x, y = np.interp(fine, lengths, corners[:, 0]), np.interp(fine, lengths, corners[:, 1])
    kernel = np.hanning(43)[1:-1]
    kernel /= kernel.sum()
    pad = len(kernel) // 2
    x = np.convolve(np.pad(x, pad, mode="reflect", reflect_type="odd"), kernel, mode="valid")
    y = np.convolve(np.pad(y, pad, mode="reflect", reflect_type="odd"), kernel, mode="valid")
    pause_at, pause_s = np.inf, 0.0
    if rng.random() < 0.125:
        pause_at, pause_s = lengths[-1] * rng.uniform(0.35, 0.65), rng.uniform(1.5, 3.0)
    walking = lengths[-1] / speed
    seconds = np.arange(0.0, walking + pause_s, STEP_S)
    distance = np.where(
        seconds < pause_at / speed, seconds * speed, np.maximum(min(pause_at, 1e9), (seconds - pause_s) * speed)
    )
    pausing = (seconds > pause_at / speed) & (seconds < pause_at / speed + pause_s)
    px, py = np.interp(distance, fine, x), np.interp(distance, fine, y)
    toward = np.unwrap(np.arctan2(np.gradient(y), np.gradient(x)))
    swing = 0.44 * speed / 1.3
    swings = np.convolve(np.where(pausing, 0.02, swing), np.ones(7) / 7, mode="same")
    swings[:4], swings[-4:] = swing, swing
    stride = 0.86 * person.height  # one full gait cycle, two steps
    return Walk(
        person_id=person_id,
        camera=camera,
        start_s=start_s,
        speed=speed,
        path=np.stack([seconds, px, py], axis=1),
        headings=np.interp(distance, fine, toward),
        strides=rng.uniform(0, 2 * np.pi) + distance / stride * 2 * np.pi,
        swings=swings,
    )


def _outline(walk: Walk, scene: Scene, person: Person, moments: Array) -> Array:
    """About where a walker is in the picture (left, top, right, bottom) at moments of the recording, (n, 4); NaN when
    out of it."""
    boxes = np.full((len(moments), 4), np.nan)
    inside = (moments >= walk.start_s) & (moments <= walk.end_s)
    since = moments[inside] - walk.start_s
    x = np.interp(since, walk.path[:, 0], walk.path[:, 1])
    y = np.interp(since, walk.path[:, 0], walk.path[:, 2])
    foot, depth = scene.view.project(np.stack([x, y, np.zeros(len(x))], axis=1))
    head, _ = scene.view.project(np.stack([x, y, np.full(len(x), person.height)], axis=1))
    half = 0.3 * scene.view.focal / depth
    rows = np.stack([foot[:, 0] - half, head[:, 1], foot[:, 0] + half, foot[:, 1]], axis=1)
    seen = (rows[:, 2] > 0) & (rows[:, 0] < scene.view.width) & (rows[:, 1] < scene.view.height)
    rows[~seen] = np.nan
    boxes[inside] = rows
    return boxes


def arrange(people: list[Person], scenes: list[Scene], seconds: float, rng: np.random.Generator) -> list[list[Walk]]:
    """Every walker's passes, one list per camera, ordered by start."""
    moments = np.arange(0.0, seconds, 0.25)
    present = [np.zeros(len(moments)) for _ in scenes]
    trips: dict[int, list[tuple[Walk, Array]]] = {}
    visited: dict[int, list[int]] = {}
    for person_id in range(1, len(people) + 1):
        # Decided before the candidates are compared: a shorter trip always crowds the cameras less.
        skipped = int(rng.integers(len(scenes))) if len(scenes) > 2 and rng.random() < SKIPPING else None
        visited[person_id] = [camera for camera in range(len(scenes)) if camera != skipped]
    for _ in range(ROUNDS):
        for person_id, person in enumerate(people, start=1):
            # In the later rounds everyone may find a better time among the others.
            for walk, span in trips.pop(person_id, []):
                present[walk.camera] -= np.isfinite(span[:, 0])
            best: tuple[float, list[tuple[Walk, Array]]] | None = None
            for _ in range(CANDIDATES):
                trip, cost = _trip(person, person_id, visited[person_id], scenes, seconds, moments, rng)
                cost += sum(_crowding(walk, span, present, trips) for walk, span in trip)
                if best is None or cost < best[0]:
                    best = (cost, trip)
            assert best is not None
            trips[person_id] = best[1]
            for walk, span in best[1]:
                present[walk.camera] += np.isfinite(span[:, 0])
    plan: list[list[Walk]] = [[] for _ in scenes]
    for trip in trips.values():
        for walk, _ in trip:
            plan[walk.camera].append(walk)
    return [sorted(walks, key=lambda walk: walk.start_s) for walks in plan]


def _crowding(walk: Walk, span: Array, present: list[Array], trips: dict[int, list[tuple[Walk, Array]]]) -> float:
    """What is against a walk: too many in the picture at once, or going with somebody all the way."""
    crowd = present[walk.camera][np.isfinite(span[:, 0])]
    cost = 0.12 * float(crowd.sum()) + 0.8 * float((crowd >= 3).sum()) + 5.0 * float((crowd >= 4).sum())
    for trip in trips.values():
        for other, taken in trip:
            if other.camera != walk.camera or other.start_s > walk.end_s or other.end_s < walk.start_s:
                continue
            # A crossing of about a second is wanted, walking one behind the other all the way is not.
            cost += OVERLAP_COST * max(0.0, float(_covered(span, taken).sum()) - 2.5)
    return cost


def _covered(a: Array, b: Array) -> Array:
    """Share of the smaller of two outlines that the other covers, moment by moment, 0 where one is out of sight."""
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    smaller = np.minimum((a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1]), (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]))
    return np.nan_to_num(np.clip(width, 0, None) * np.clip(height, 0, None) / smaller)


def _trip(
    person: Person,
    person_id: int,
    cameras: list[int],
    scenes: list[Scene],
    seconds: float,
    moments: Array,
    rng: np.random.Generator,
) -> tuple[list[tuple[Walk, Array]], float]:
    """One candidate: walks with their spans, and what the overrun of the recording's end costs."""
    order = list(cameras)
    if rng.random() < 0.5:
        order.reverse()
    shift = int(rng.integers(len(order)))
    order = order[shift:] + order[:shift]
    now = rng.uniform(EMPTY_START_S, max(EMPTY_START_S + 0.1, seconds * 0.52))
    walks: list[Walk] = []
    cost = 0.0
    for camera in order:
        routes = scenes[camera].routes
        route = routes[int(rng.integers(len(routes)))]
        walk = make_walk(person, person_id, camera, route, now, rng)
        walks.append(walk)
        now = walk.end_s + rng.uniform(1.0, 9.0)
        cost += 20.0 * max(0.0, walk.end_s - seconds)
    return [(walk, _outline(walk, scenes[walk.camera], person, moments)) for walk in walks], cost
