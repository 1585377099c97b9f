"""A walking figure: a person's attributes and a pose in, a flat-shaded low-polygon picture out.

The body is a handful of lofts (rings of vertices along an axis): torso, head, two-segment arms and legs, shoes, and
what is worn or carried. Frontal, side and back views, foreshortening and overlap all come from projecting this one
mesh, so nothing is drawn per view. Parts are convex enough to be painted far to near with back faces left out.

Body frame: x forward, y left, z up, metres, origin on the ground under the hips.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from camera import Pinhole
from numpy.typing import NDArray
from people import Person

Array = NDArray[np.float64]

SUPERSAMPLING = 2  # figures are drawn at twice the resolution and averaged down: that is the anti-aliasing
_SUBPIXEL_BITS = 3

TORSO_SIDES, TORSO_RINGS = 12, 11
LIMB_SIDES, LIMB_RINGS = 6, 4
HEAD_SIDES, HEAD_RINGS = 10, 8


@dataclass(frozen=True)
class Pose:
    """Where and how somebody walks: ground position (x, y) and heading in the scene (radians), gait phase (radians,
    2π = two steps), and how far the legs swing (radians, 0 = standing)."""

    x: float
    y: float
    heading: float
    phase: float
    swing: float


@dataclass(frozen=True)
class DrawnFigure:
    """A figure drawn alone: `image` (H, W, 4) BGRA uint8 whose alpha is 0 or 255, at SUPERSAMPLING times the frame's
    resolution; `left`, `top`: where it lies in that enlarged frame (may be outside); `depth` in metres."""

    image: NDArray[np.uint8]
    left: int
    top: int
    depth: float


def _quads(rings: int, sides: int) -> NDArray[np.int64]:
    ring, side = np.meshgrid(np.arange(rings - 1), np.arange(sides), indexing="ij")
    following = (side + 1) % sides
    corners = (ring * sides + side, ring * sides + following, (ring + 1) * sides + following, (ring + 1) * sides + side)
    return np.stack(corners, axis=-1).reshape(-1, 4)


def _circle(sides: int) -> tuple[Array, Array]:
    angle = (np.arange(sides) + 0.5) * (2 * np.pi / sides)
    return np.cos(angle), np.sin(angle)


def _upright(z: Array, depth: Array, width: Array, sides: int, x: float = 0.0, y: float = 0.0) -> Array:
    """Rings around a vertical axis: (rings * sides, 3) vertices with half-axes `depth` (x) and `width` (y)."""
    cos, sin = _circle(sides)
    vertices = np.empty((len(z), sides, 3))
    vertices[..., 0] = x + depth[:, None] * cos
    vertices[..., 1] = y + width[:, None] * sin
    vertices[..., 2] = z[:, None]
    return vertices.reshape(-1, 3)


def _box(centre: tuple[float, float, float], size: tuple[float, float, float]) -> Array:
    """An upright box as a loft of four-sided rings whose outer ones shrink to a point (its lids)."""
    x, y, z = centre
    half_x, half_y, half_z = (side / 2 for side in size)
    corner = np.sqrt(2.0)
    radii = np.array([0.0, corner, corner, 0.0])
    heights = np.array([z - half_z, z - half_z, z + half_z, z + half_z])
    return _upright(heights, radii * half_x, radii * half_y, 4, x, y)


class Figure:
    """The mesh of one person: topology and colours are fixed here, `vertices(pose)` bends it."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self._faces: list[NDArray[np.int64]] = []
        self._colours: list[Array] = []
        self._part_of_face: list[NDArray[np.int64]] = []
        self._bias: list[float] = []
        self._vertex_count = 0
        self._part_slices: list[tuple[int, int]] = []
        self._add_limbs()
        self._add_torso()
        self._add_head()
        self._add_extras()
        self.faces = np.concatenate(self._faces)
        self.colours = np.concatenate(self._colours)
        self.part_of_face = np.concatenate(self._part_of_face)
        self.bias = np.asarray(self._bias)
        self.part_starts = np.asarray([start for start, _ in self._part_slices])
        self.part_sizes = np.asarray([size for _, size in self._part_slices])

    def _add_part(self, rings: int, sides: int, colours: Array, bias: float = 0.0) -> None:
        """`colours`: (rings - 1, sides, 3), (rings - 1, 3) or (3,). `bias`: metres by which it is painted nearer."""
        part = len(self._bias)
        faces = _quads(rings, sides) + self._vertex_count
        full = np.asarray(colours, dtype=np.float64)
        if full.ndim == 2:
            full = full[:, None, :]
        self._faces.append(faces)
        self._colours.append(np.broadcast_to(full, (rings - 1, sides, 3)).reshape(-1, 3))
        self._part_of_face.append(np.full(len(faces), part))
        self._bias.append(bias)
        self._part_slices.append((self._vertex_count, rings * sides))
        self._vertex_count += rings * sides

    def _add_limbs(self) -> None:
        """Ten limb lofts in the order `vertices` makes them: thighs, shins, upper arms, forearms, shoes."""
        p = self.person
        skin, lower, upper = np.array(p.skin), np.array(p.lower_colour), np.array(p.upper_colour)
        if p.lower == "trousers":
            thigh, shin = [lower] * 3, [lower] * 3
        elif p.lower == "shorts":
            thigh, shin = [lower] * 3, [skin] * 3
        else:
            thigh, shin = [skin] * 3, [skin] * 3
        if p.upper == "vest":
            arm, forearm = [skin] * 3, [skin] * 3
        elif p.upper == "tshirt":
            arm, forearm = [upper, upper, skin], [skin] * 3
        else:
            arm, forearm = [upper] * 3, [upper, upper, skin]
        if p.pattern == "stripes" and p.upper not in ("vest", "tshirt"):
            arm = [upper, np.array(p.pattern_colour), upper]
        shoe = [np.array(p.shoe_colour)] * 3
        for colours in (thigh, shin, arm, forearm, shoe):
            for _ in range(2):
                self._add_part(LIMB_RINGS, LIMB_SIDES, np.array(colours))

    def _add_torso(self) -> None:
        p = self.person
        upper, second = np.array(p.upper_colour, dtype=float), np.array(p.pattern_colour, dtype=float)
        colours = np.broadcast_to(upper, (TORSO_RINGS - 1, TORSO_SIDES, 3)).copy()
        forward, left = _circle(TORSO_SIDES)
        middle_of_face = np.roll(forward, -1) + forward
        side_of_face = np.roll(left, -1) + left
        front = middle_of_face > 1.2
        if p.pattern == "stripes":
            colours[2::2] = second
        elif p.pattern == "blocks":
            colours[6:] = second
        elif p.pattern == "logo":
            colours[5:8, front] = second
        elif p.pattern == "checks":
            ring, side = np.meshgrid(np.arange(TORSO_RINGS - 1), np.arange(TORSO_SIDES), indexing="ij")
            colours[(ring // 2 + side // 2) % 2 == 0] = second
        elif p.pattern == "halves":
            colours[:, side_of_face > 0] = second
        if p.upper == "jacket":
            inner = np.array((235, 235, 235)) if sum(p.upper_colour) < 380 else np.array((40, 36, 36))
            colours[2:, front & (np.abs(side_of_face) < 0.7)] = inner
        if p.bag == "shoulder":
            # The strap runs from the left hip over the right shoulder.
            for ring in range(1, TORSO_RINGS - 1):
                across = 0.95 - 1.9 * ring / (TORSO_RINGS - 2)
                colours[ring, np.argsort(np.abs(side_of_face / 2 - across))[:2]] = p.bag_colour
        colours[:2] = p.lower_colour if p.upper != "coat" else p.upper_colour
        colours[-1] = p.skin
        self._add_part(TORSO_RINGS, TORSO_SIDES, colours, bias=0.06)

    def _add_head(self) -> None:
        p = self.person
        colours = np.broadcast_to(np.array(p.skin, dtype=float), (HEAD_RINGS - 1, HEAD_SIDES, 3)).copy()
        forward, _ = _circle(HEAD_SIDES)
        frontness = (forward + np.roll(forward, -1)) / 2
        hair = np.zeros((HEAD_RINGS - 1, HEAD_SIDES), dtype=bool)
        if p.hair_style != "bald":
            hair[5:] = True
            hair[4:, frontness < 0.75] = True
            hair[2:, frontness < (0.1 if p.hair_style == "short" else 0.45)] = True
            if p.hair_style in ("long", "bob"):
                hair[1:, frontness < 0.3] = True
        colours[hair] = p.hair
        if p.hat != "none":
            colours[5 if p.hat == "cap" else 4 :] = p.hat_colour
        self._add_part(HEAD_RINGS, HEAD_SIDES, colours, bias=0.02)

    def _add_extras(self) -> None:
        p = self.person
        if p.lower in ("skirt", "long skirt"):
            self._add_part(3, TORSO_SIDES, np.array(p.lower_colour), bias=0.16 if p.lower == "skirt" else 0.22)
        if p.upper == "coat":
            self._add_part(3, TORSO_SIDES, np.array(p.upper_colour), bias=0.15)
        if p.hair_style == "long" or p.hair_style == "bun":
            self._add_part(4, 6, np.array(p.hair), bias=0.0)
        if p.hat == "cap":
            self._add_part(4, 4, np.array(p.hat_colour), bias=0.0)
        if p.bag == "backpack":
            darker = np.array(p.bag_colour) * 0.72
            self._add_part(5, 4, np.array([p.bag_colour, darker, p.bag_colour, p.bag_colour]), bias=0.02)
        elif p.bag in ("handbag", "shoulder"):
            self._add_part(4, 4, np.array(p.bag_colour), bias=0.05)

    def _legs(self, pose: Pose) -> tuple[Array, Array, Array, float]:
        """Hips, knees, ankles (2, 3) each with the hip at height 0, and how high the hip is above the ground."""
        h = self.person.height
        thigh, shin, ankle = 0.245 * h, 0.235 * h, 0.04 * h
        phase = pose.phase + np.array([0.0, np.pi])
        swing = pose.swing * {"skirt": 0.8, "long skirt": 0.6}.get(self.person.lower, 1.0)
        angle = swing * np.sin(phase) + 0.04
        flexion = 0.06 + 1.5 * swing * np.maximum(0.0, np.cos(phase)) ** 2
        hips = np.stack([np.zeros(2), np.array([1.0, -1.0]) * 0.05 * h * self.person.build, np.zeros(2)], axis=1)
        knees = hips + thigh * np.stack([np.sin(angle), np.zeros(2), -np.cos(angle)], axis=1)
        below = angle - flexion
        ankles = knees + shin * np.stack([np.sin(below), np.zeros(2), -np.cos(below)], axis=1)
        return hips, knees, ankles, float(ankle - ankles[:, 2].min())

    def vertices(self, pose: Pose) -> Array:
        """All vertices in the body frame, (V, 3), parts in the order they were added."""
        p = self.person
        h, b = p.height, p.build
        hips, knees, ankles, hip_height = self._legs(pose)
        for joints in (hips, knees, ankles):
            joints[:, 2] += hip_height
        sides = np.array([1.0, -1.0])
        shoulder_height = hip_height + 0.30 * h
        phase = pose.phase + np.array([np.pi, 0.0])
        arm_angle = 0.85 * pose.swing * np.sin(phase)
        elbow = 0.15 + 0.7 * pose.swing * (1 + np.sin(phase))
        shoulders = np.stack([np.zeros(2), sides * (0.098 * h * b + 0.02 * h), np.full(2, shoulder_height)], axis=1)
        splay = sides * 0.12
        upper_arm, forearm = 0.165 * h, 0.165 * h
        elbows = shoulders + upper_arm * np.stack([np.sin(arm_angle), splay, -np.cos(arm_angle)], axis=1)
        lower_angle = arm_angle + elbow
        hands = elbows + forearm * np.stack([np.sin(lower_angle), splay * 0.3, -np.cos(lower_angle)], axis=1)
        heels = ankles + np.array([-0.04 * h, 0, -0.022 * h])
        toes = ankles + np.array([0.10 * h, 0, -0.022 * h])
        starts = np.concatenate([hips, knees, shoulders, elbows, heels])
        ends = np.concatenate([knees, ankles, elbows, hands, toes])
        trouser = 1.12 if p.lower == "trousers" else 1.0
        sleeve = 1.0 if p.upper in ("vest", "tshirt") else 1.18
        radii = h * np.array(
            [
                np.array([0.056, 0.053, 0.045, 0.038]) * b * trouser,
                np.array([0.038, 0.037, 0.030, 0.026]) * b * trouser,
                np.array([0.036, 0.034, 0.030, 0.026]) * b * sleeve,
                np.array([0.026, 0.025, 0.021, 0.019]) * b * sleeve,
                np.array([0.020, 0.027, 0.026, 0.014]),
            ]
        ).repeat(2, axis=0)
        parts = [self._limb_vertices(starts, ends, radii)]

        rise = np.array([-0.055, -0.02, 0.03, 0.07, 0.115, 0.16, 0.205, 0.25, 0.29, 0.325, 0.37]) * h + hip_height
        width = np.array([0.06, 0.092, 0.098, 0.092, 0.088, 0.092, 0.1, 0.106, 0.106, 0.078, 0.034]) * h * b
        depth = np.array([0.05, 0.066, 0.07, 0.066, 0.062, 0.063, 0.068, 0.07, 0.064, 0.05, 0.034]) * h * b
        depth[-1] = width[-1] = 0.034 * h
        parts.append(_upright(rise, depth, width, TORSO_SIDES))

        polar = np.linspace(-np.pi / 2, np.pi / 2, HEAD_RINGS)
        head = hip_height + 0.435 * h
        bigger = 1.08 if p.hair_style != "bald" or p.hat != "none" else 1.0
        ring = np.cos(polar) * np.where(polar > 0.2, bigger, 1.0)
        parts.append(
            _upright(head + 0.075 * h * np.sin(polar), 0.064 * h * ring, 0.055 * h * ring, HEAD_SIDES, x=0.008 * h)
        )

        if p.lower in ("skirt", "long skirt"):
            hem = 0.26 if p.lower == "skirt" else 0.40
            flare = 1.5 if p.lower == "skirt" else 1.75
            heights = hip_height + h * np.array([-hem, -0.08, 0.04])
            step = 0.25 * pose.swing * h * 0.2
            parts.append(
                _upright(
                    heights,
                    h * np.array([0.075 * flare, 0.078, 0.068]) * b + np.array([step, 0, 0]),
                    h * np.array([0.085 * flare, 0.102, 0.094]) * b,
                    TORSO_SIDES,
                )
            )
        if p.upper == "coat":
            heights = hip_height + h * np.array([-0.20, -0.05, 0.07])
            step = 0.25 * pose.swing * h * 0.2
            parts.append(
                _upright(
                    heights,
                    h * np.array([0.095, 0.08, 0.072]) * b + np.array([step, 0, 0]),
                    h * np.array([0.115, 0.106, 0.1]) * b,
                    TORSO_SIDES,
                )
            )
        if p.hair_style == "long":
            heights = head + h * np.array([-0.15, -0.1, 0.0, 0.05])
            parts.append(
                _upright(
                    heights,
                    h * np.array([0.0, 0.02, 0.026, 0.02]),
                    h * np.array([0.0, 0.056, 0.058, 0.04]),
                    6,
                    x=-0.05 * h,
                )
            )
        elif p.hair_style == "bun":
            heights = head + h * np.array([0.02, 0.035, 0.065, 0.08])
            ring = h * np.array([0.0, 0.03, 0.03, 0.0])
            parts.append(_upright(heights, ring, ring, 6, x=-0.07 * h))
        if p.hat == "cap":
            parts.append(_box((0.075 * h, 0.0, head + 0.028 * h), (0.075 * h, 0.085 * h, 0.014 * h)))
        if p.bag == "backpack":
            heights = hip_height + h * np.array([0.05, 0.055, 0.13, 0.27, 0.285])
            parts.append(
                _upright(
                    heights,
                    h * np.array([0.0, 0.062, 0.066, 0.055, 0.0]),
                    h * np.array([0, 0.1, 0.1, 0.09, 0.0]),
                    4,
                    x=-(0.062 * b + 0.045) * h,
                )
            )
        elif p.bag == "handbag":
            x, y, z = hands[1].tolist()
            parts.append(_box((x, y - 0.02, z - 0.085 * h), (0.15 * h, 0.055 * h, 0.12 * h)))
        elif p.bag == "shoulder":
            parts.append(
                _box((-0.01 * h, (0.115 * b + 0.03) * h, hip_height - 0.02 * h), (0.15 * h, 0.055 * h, 0.12 * h))
            )
        return np.concatenate(parts)

    @staticmethod
    def _limb_vertices(starts: Array, ends: Array, radii: Array) -> Array:
        """Lofts between joints: starts, ends (L, 3), radii (L, rings) -> (L * rings * sides, 3)."""
        axis = ends - starts
        axis /= np.linalg.norm(axis, axis=1, keepdims=True)
        across = np.array([0.0, 1.0, 0.0]) - axis * axis[:, 1:2]
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        third = np.cross(axis, across)
        # A little over both ends, so that a bent knee or elbow shows no gap.
        along = np.linspace(-0.06, 1.04, LIMB_RINGS)
        centres = starts[:, None] + (ends - starts)[:, None] * along[None, :, None]
        cos, sin = _circle(LIMB_SIDES)
        ring = cos[None, :, None] * across[:, None] + sin[None, :, None] * third[:, None]
        return (centres[:, :, None] + radii[:, :, None, None] * ring[:, None]).reshape(-1, 3)

    def draw(self, pose: Pose, view: Pinhole, light: Array, scale: int = SUPERSAMPLING) -> DrawnFigure:
        """Paint the figure as `view` sees it. `light`: unit vector from the ground towards the light (3,)."""
        vertices = to_scene(self.vertices(pose), pose)
        pixels, depth = view.project(vertices)
        pixels = pixels * scale
        corners = vertices[self.faces]
        normal = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
        towards = view.position - corners.mean(axis=1)
        facing = np.einsum("ij,ij->i", normal, towards) > 0
        faces, normal = self.faces[facing], normal[facing]
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
        shade = 0.66 + 0.30 * np.clip(normal @ light, -0.4, 1.0) + 0.08 * normal[:, 2]
        colours = np.clip(self.colours[facing] * shade[:, None], 0, 255)
        part_depth = np.add.reduceat(depth, self.part_starts) / self.part_sizes - self.bias
        order = np.argsort(-part_depth[self.part_of_face[facing]], kind="stable")

        low = np.floor(pixels.min(axis=0)).astype(int) - 1
        high = np.ceil(pixels.max(axis=0)).astype(int) + 2
        low -= low % scale
        size = high - low
        size += -size % scale
        image = np.zeros((int(size[1]), int(size[0]), 4), dtype=np.uint8)
        polygons = np.rint((pixels - low)[faces[order]] * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        shades = np.column_stack([colours[order], np.full(len(order), 255.0)]).tolist()
        for polygon, colour in zip(polygons, shades, strict=True):
            cv2.fillConvexPoly(image, polygon, colour, cv2.LINE_8, _SUBPIXEL_BITS)
        return DrawnFigure(image=image, left=int(low[0]), top=int(low[1]), depth=float(depth.mean()))

    def ground_shadow(self, pose: Pose, light: Array) -> list[Array]:
        """Where each part's shadow falls on the ground: a list of (n, 2) scene points, one hull a part."""
        vertices = to_scene(self.vertices(pose), pose)
        slide = vertices[:, 2:3] * (-light[:2] / light[2])[None, :]
        fallen = vertices[:, :2] + slide
        return [
            fallen[start : start + size]
            for start, size in zip(self.part_starts.tolist(), self.part_sizes.tolist(), strict=True)
        ]


def to_scene(vertices: Array, pose: Pose) -> Array:
    """Turn body-frame vertices (V, 3) to the heading and set them on their place in the scene."""
    cos, sin = np.cos(pose.heading), np.sin(pose.heading)
    placed = np.empty_like(vertices)
    placed[:, 0] = pose.x + cos * vertices[:, 0] - sin * vertices[:, 1]
    placed[:, 1] = pose.y + sin * vertices[:, 0] + cos * vertices[:, 1]
    placed[:, 2] = vertices[:, 2]
    return placed
