"""The places the demo's cameras watch: a floor, walls, pillars and furniture, ray-cast once into a picture and a depth
map, and the routes people take through them.

Everything solid is an upright box. The depth map is what lets walls and pillars hide people: a figure's pixel is seen
where the scene behind it is farther away than the figure.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from camera import Pinhole
from numpy.typing import NDArray
from people import Colour

Array = NDArray[np.float64]
FAR = 1e6


@dataclass(frozen=True)
class Box:
    """An upright box: low and high corner in metres, colour BGR, texture one of "plain", "panels", "bricks",
    "leaves", "slats"."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    colour: Colour
    texture: str = "plain"


@dataclass(frozen=True)
class Route:
    """A way through the scene: corner points on the ground (x, y) in metres; walked in this direction."""

    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Scene:
    """One camera's place. `floor`: "tiles", "planks" or "paving"; `light`: direction to the light (need not be unit);
    `routes`: from which each pass takes one, moved a little sideways."""

    view: Pinhole
    floor: str
    floor_colour: Colour
    sky: Colour
    boxes: tuple[Box, ...]
    light: tuple[float, float, float]
    shadow: float
    routes: tuple[Route, ...]

    @property
    def towards_light(self) -> Array:
        """Unit vector to the light, (3,)."""
        direction = np.asarray(self.light, dtype=np.float64)
        return direction / np.linalg.norm(direction)


def _hall() -> Scene:
    """An entrance hall: people come out of a passage at the back and walk towards the camera."""
    wall, pillar = (158, 166, 170), (120, 132, 142)
    return Scene(
        view=Pinhole(width=640, height=360, focal=590.0, above_ground=2.9, tilt=0.205),
        floor="tiles",
        floor_colour=(172, 180, 186),
        sky=(196, 190, 182),
        boxes=(
            Box((-9.0, 12.6, 0.0), (-1.9, 13.0, 3.6), wall, "panels"),
            Box((1.9, 12.6, 0.0), (9.0, 13.0, 3.6), wall, "panels"),
            Box((-2.4, 15.4, 0.0), (2.4, 15.7, 3.6), (128, 134, 138), "plain"),
            Box((-1.9, 12.6, 2.6), (1.9, 13.0, 3.6), (120, 128, 134), "plain"),
            Box((-2.05, 12.5, 0.0), (-1.85, 12.6, 2.7), (70, 96, 122), "plain"),
            Box((1.85, 12.5, 0.0), (2.05, 12.6, 2.7), (70, 96, 122), "plain"),
            Box((-3.5, 12.52, 1.2), (-2.5, 12.6, 2.4), (150, 120, 84), "panels"),
            Box((3.9, 12.52, 1.3), (5.1, 12.6, 2.3), (92, 110, 168), "panels"),
            Box((-3.15, 9.0, 0.0), (-2.65, 9.5, 4.5), pillar, "slats"),
            Box((2.65, 9.0, 0.0), (3.15, 9.5, 4.5), pillar, "slats"),
            Box((-5.2, 10.6, 0.0), (-4.0, 11.4, 0.6), (96, 120, 140), "plain"),
            Box((-5.1, 10.7, 0.6), (-4.1, 11.3, 1.15), (86, 128, 92), "leaves"),
            Box((4.0, 10.2, 0.0), (5.0, 12.2, 0.45), (92, 112, 138), "slats"),
            Box((-1.3, 8.6, 0.0), (1.3, 11.8, 0.012), (124, 122, 168), "plain"),
        ),
        light=(-0.35, -0.35, 1.0),
        shadow=0.26,
        routes=(
            Route(((-2.1, 14.0), (-0.9, 12.6), (-1.9, 8.0), (-2.4, 3.4))),
            Route(((-2.1, 13.9), (-0.3, 12.4), (0.1, 8.0), (0.4, 3.4))),
            Route(((2.1, 14.0), (0.9, 12.6), (1.8, 8.0), (2.4, 3.4))),
            Route(((2.1, 14.1), (0.6, 12.6), (-1.2, 8.0), (-0.9, 3.4))),
            Route(((-2.1, 14.1), (-0.6, 12.6), (1.2, 8.0), (1.3, 3.4))),
        ),
    )


def _arcade() -> Scene:
    """A way out: people enter below the camera, walk away from it and turn behind one of two walls."""
    wall = (128, 148, 170)
    return Scene(
        view=Pinhole(width=768, height=432, focal=690.0, above_ground=3.1, tilt=0.21),
        floor="paving",
        floor_colour=(160, 164, 164),
        sky=(222, 206, 186),
        boxes=(
            Box((-6.0, 1.0, 0.0), (-4.3, 13.4, 4.2), wall, "bricks"),
            Box((-9.0, 16.4, 0.0), (9.0, 16.8, 5.0), (176, 176, 162), "panels"),
            Box((-1.2, 16.3, 0.0), (-0.1, 16.4, 2.2), (96, 122, 84), "panels"),
            Box((1.0, 16.3, 1.0), (2.0, 16.4, 2.2), (168, 150, 110), "panels"),
            Box((-4.6, 13.4, 0.0), (-2.0, 14.0, 4.2), wall, "bricks"),
            Box((2.6, 13.4, 0.0), (9.0, 14.0, 4.2), wall, "bricks"),
            Box((3.5, 8.6, 0.0), (4.0, 9.1, 4.5), (126, 140, 150), "plain"),
            Box((2.9, 12.4, 0.0), (4.5, 13.1, 0.45), (120, 126, 132), "plain"),
            Box((3.0, 12.5, 0.45), (4.4, 13.0, 1.2), (88, 132, 96), "leaves"),
            Box((-4.25, 8.0, 1.3), (-4.2, 9.6, 2.4), (88, 120, 176), "panels"),
        ),
        light=(0.5, 0.25, 1.0),
        shadow=0.32,
        routes=(
            Route(((-2.2, 3.4), (-2.0, 8.0), (-1.0, 12.6), (-1.3, 14.9), (-3.2, 15.2))),
            Route(((-0.7, 3.4), (-0.6, 8.0), (-0.8, 12.6), (-1.2, 14.9), (-3.2, 15.2))),
            Route(((0.8, 3.4), (0.8, 8.0), (1.2, 12.0), (1.6, 14.9), (3.8, 15.2))),
            Route(((2.3, 3.4), (2.2, 8.0), (1.6, 12.6), (1.8, 14.9), (3.8, 15.2))),
            Route(((1.7, 3.4), (1.4, 8.0), (-0.4, 12.6), (-1.2, 14.9), (-3.2, 15.2))),
        ),
    )


def _gallery() -> Scene:
    """A gallery along a wall: people cross the picture from side to side."""
    return Scene(
        view=Pinhole(width=640, height=360, focal=520.0, above_ground=2.6, tilt=0.165),
        floor="planks",
        floor_colour=(168, 168, 156),
        sky=(196, 196, 190),
        boxes=(
            Box((-9.0, 11.4, 0.0), (9.0, 11.8, 4.2), (176, 178, 172), "plain"),
            Box((-9.0, 11.34, 0.0), (9.0, 11.4, 0.14), (110, 126, 140), "plain"),
            Box((-5.6, 11.25, 1.1), (-3.6, 11.4, 2.4), (150, 128, 96), "panels"),
            Box((-1.4, 11.25, 1.1), (0.8, 11.4, 2.4), (104, 140, 156), "panels"),
            Box((3.0, 11.25, 1.1), (5.2, 11.4, 2.4), (120, 116, 150), "panels"),
            Box((-0.95, 4.9, 0.0), (-0.7, 5.15, 4.5), (112, 122, 132), "plain"),
            Box((1.4, 10.2, 0.0), (3.0, 10.8, 0.42), (92, 120, 150), "slats"),
            Box((-5.2, 10.5, 0.0), (-4.7, 11.0, 0.5), (96, 104, 120), "plain"),
            Box((-5.25, 10.45, 0.5), (-4.65, 11.05, 1.1), (86, 128, 92), "leaves"),
        ),
        light=(0.3, -0.55, 1.0),
        shadow=0.24,
        routes=(
            Route(((-5.0, 6.3), (0.0, 6.4), (5.0, 6.3))),
            Route(((5.9, 7.5), (0.0, 7.4), (-5.9, 7.5))),
            Route(((-6.7, 8.7), (0.0, 8.6), (6.7, 8.8))),
            Route(((5.0, 6.2), (0.0, 7.0), (-6.3, 8.2))),
            Route(((-5.3, 6.9), (0.0, 7.8), (6.5, 8.4))),
        ),
    )


def demo_scene(number: int) -> Scene:
    """The place of camera `number` (0, 1, ...); after three they repeat, and the routes' people differ."""
    return (_hall, _arcade, _gallery)[number % 3]()


def _value_noise(rng: np.random.Generator, cells: int = 64) -> NDArray[np.float32]:
    return rng.random((cells, cells), dtype=np.float32) * 2 - 1


def _smooth_noise(grid: NDArray[np.float32], u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:
    cells = len(grid)
    map_u = np.mod(u, cells - 1).astype(np.float32)
    map_v = np.mod(v, cells - 1).astype(np.float32)
    return cv2.remap(grid, map_u, map_v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _floor_shade(
    kind: str, x: NDArray[np.float32], y: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """How light each floor point is, around 1."""
    step_x, step_y = {"tiles": (1.0, 1.0), "planks": (2.4, 0.28), "paving": (0.8, 0.55)}[kind]
    row = np.floor(y / step_y)
    shifted = x + (np.mod(row, 3) * step_x / 3 if kind != "tiles" else 0)
    column = np.floor(shifted / step_x)
    tone = _value_noise(rng)[np.mod(row.astype(int) * 7, 64), np.mod(column.astype(int) * 13 + row.astype(int), 64)]
    within_x, within_y = np.mod(shifted, step_x), np.mod(y, step_y)
    joint = np.minimum(np.minimum(within_x, step_x - within_x), np.minimum(within_y, step_y - within_y))
    lines = np.clip(joint / 0.02, 0, 1)
    grain = _smooth_noise(_value_noise(rng), x * 9, y * 9) + _smooth_noise(_value_noise(rng), x * 2, y * 2)
    return (1 + 0.045 * tone + 0.025 * grain) * (0.84 + 0.16 * lines)


def _box_shade(
    texture: str, along: NDArray[np.float32], z: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    grain = 1 + 0.03 * _smooth_noise(_value_noise(rng), along * 6, z * 6)
    if texture == "bricks":
        row = np.floor(z / 0.22)
        within = np.mod(along + np.mod(row, 2) * 0.3, 0.6)
        mortar = (np.mod(z, 0.22) < 0.03) | (within < 0.03)
        tone = _value_noise(rng)[np.mod(row.astype(int), 64), np.mod(np.floor(along / 0.6).astype(int), 64)]
        return grain * np.where(mortar, 1.12, 0.94 + 0.05 * tone)
    if texture == "panels":
        edge = (np.mod(along, 1.2) < 0.04) | (np.mod(z, 1.2) < 0.03)
        return grain * np.where(edge, 0.82, 1.0)
    if texture == "slats":
        return grain * np.where(np.mod(along, 0.16) < 0.035, 0.84, 1.0)
    if texture == "leaves":
        return 1 + 0.30 * _smooth_noise(_value_noise(rng), along * 14, z * 14)
    return grain


Plane = NDArray[np.float32]


def _entry(
    origin: tuple[Plane | float, Plane | float, Plane | float],
    direction: tuple[Plane | float, Plane | float, Plane | float],
    box: Box,
) -> tuple[Plane, NDArray[np.int8]]:
    """Distance along each ray (units of its direction) to the box, FAR where missed, and the axis of the face hit."""
    enter, leave = np.float32(-FAR), np.float32(FAR)
    axis: NDArray[np.int8] = np.int8(0)  # type: ignore[assignment]
    for number in range(3):
        inverse = 1 / (np.asarray(direction[number], np.float32) + np.float32(1e-9))
        first = (np.float32(box.low[number]) - origin[number]) * inverse
        second = (np.float32(box.high[number]) - origin[number]) * inverse
        near = np.minimum(first, second)
        axis = np.where(near > enter, np.int8(number), axis)
        enter = np.maximum(enter, near)
        leave = np.minimum(leave, np.maximum(first, second))
    hit = (enter <= leave) & (enter > 1e-3)
    return np.where(hit, enter, np.float32(FAR)), np.broadcast_to(axis, np.shape(enter))


def _window(box: Box, view: Pinhole, scale: int) -> tuple[slice, slice]:
    """Rows and columns of the enlarged frame that the box can cover."""
    corners = np.array([[x, y, z] for x in (box.low[0], box.high[0]) for y in (box.low[1], box.high[1])
                        for z in (box.low[2], box.high[2])])  # fmt: skip
    pixels, depth = view.project(corners)
    if (depth <= 0.3).any():
        return slice(None), slice(None)
    low, high = np.floor(pixels.min(axis=0) * scale) - 1, np.ceil(pixels.max(axis=0) * scale) + 2
    width, height = view.width * scale, view.height * scale
    left, right = (int(np.clip(edge, 0, width)) for edge in (low[0], high[0]))
    top, bottom = (int(np.clip(edge, 0, height)) for edge in (low[1], high[1]))
    return slice(top, bottom), slice(left, right)


def _lit(scene: Scene, points: NDArray[np.float32], rng: np.random.Generator) -> Plane:
    """How much of a broad light each point (H, W, 3) sees past the boxes, 0..1."""
    share = np.zeros(points.shape[:-1], dtype=np.float32)
    samples = 6
    for _ in range(samples):
        x, y, z = (float(part) for part in scene.towards_light + rng.normal(0, 0.09, 3))
        free = np.ones_like(share)
        start = (points[..., 0] + 0.02 * x, points[..., 1] + 0.02 * y, points[..., 2] + 0.02 * z)
        for box in scene.boxes:
            distance, _ = _entry(start, (x, y, z), box)
            free[distance < FAR] = 0
        share += free
    return share / samples


def paint(scene: Scene, scale: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The empty scene: picture (H, W, 3) uint8 BGR, and depth along the camera axis in metres at `scale` times the
    resolution, (H * scale, W * scale)."""
    view = scene.view
    rays = view.rays(scale)
    origin = view.position.astype(np.float32)
    with np.errstate(divide="ignore"):
        depth = np.where(rays[..., 2] < -1e-4, -origin[2] / rays[..., 2], np.float32(FAR)).astype(np.float32)
    which = np.where(depth < FAR, 0, -1).astype(np.int16)
    face = np.zeros(depth.shape, dtype=np.int8)
    for number, box in enumerate(scene.boxes, start=1):
        area = _window(box, view, scale)
        part = rays[area]
        if part.size == 0:
            continue
        distance, axis = _entry((0.0, 0.0, float(origin[2])), (part[..., 0], part[..., 1], part[..., 2]), box)
        nearer = distance < depth[area]
        depth[area][nearer], which[area][nearer], face[area][nearer] = distance[nearer], number, axis[nearer]

    points = origin + rays * np.minimum(depth, 100)[..., None]
    picture = np.empty((*depth.shape, 3), dtype=np.float32)
    picture[:] = np.asarray(scene.sky, dtype=np.float32)
    floor = which == 0
    shade = _floor_shade(scene.floor, points[..., 0], points[..., 1], rng)
    haze = np.clip(1 - (points[..., 1] - 8) * 0.012, 0.8, 1.0)
    picture[floor] = (np.asarray(scene.floor_colour, np.float32) * (shade * haze)[..., None])[floor]
    light = scene.towards_light
    for number, box in enumerate(scene.boxes, start=1):
        area = _window(box, view, scale)
        mine = which[area] == number
        if not mine.any():
            continue
        x, y, z = (points[area][..., axis] for axis in range(3))
        side = face[area]
        texture = _box_shade(box.texture, np.where(side == 0, y, x), np.where(side == 2, y, z), rng)
        # Which side of the box faces the camera is clear: the camera is outside and rays enter at the near side.
        facing = np.where(side == 2, light[2], np.where(side == 1, -light[1], -np.sign(rays[area][..., 0]) * light[0]))
        tone = texture * (0.80 + 0.26 * np.clip(facing, -0.5, 1))
        picture[area][mine] = np.asarray(box.colour, np.float32) * tone[mine][:, None]

    coarse = (view.width, view.height)
    half = cv2.resize(points, coarse, interpolation=cv2.INTER_NEAREST)
    lit = cv2.GaussianBlur(cv2.resize(_lit(scene, half, rng), (depth.shape[1], depth.shape[0])), (0, 0), 1.5)
    # Corners between floor and solid things get less of the surrounding light.
    corner = np.ones(depth.shape, dtype=np.float32)
    for box in scene.boxes:
        if box.low[2] > 0:
            continue
        gap_x = np.maximum(np.maximum(box.low[0] - points[..., 0], points[..., 0] - box.high[0]), 0)
        gap_y = np.maximum(np.maximum(box.low[1] - points[..., 1], points[..., 1] - box.high[1]), 0)
        corner *= 1 - 0.22 * np.exp(-np.sqrt(gap_x * gap_x + gap_y * gap_y) / 0.25) * floor
    picture *= ((1 - scene.shadow * (1 - lit)) * corner)[..., None]
    picture[which < 0] = scene.sky
    small = cv2.resize(picture, coarse, interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8), depth
