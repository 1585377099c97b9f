"""One camera's recording: compose every frame, send it through the camera's look and the codec, note the truth.

Frames depend on the seed, the camera and the frame number alone, so a recording is the same whoever renders it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from camera import CameraLook
from choreography import Walk
from figure import SUPERSAMPLING, DrawnFigure, Figure, Pose
from numpy.typing import NDArray
from people import Person
from scene import Scene, paint

Array = NDArray[np.float64]
GROUND_TRUTH_HEADER = "frame,person_id,x1,y1,x2,y2,visibility"


@dataclass(frozen=True)
class CameraPlan:
    """All that one recording is made of. `fps`: Fraction; `start`: UTC; `walks` refer to `people` by id, from 1."""

    seed: int
    camera: int
    scene: Scene
    look: CameraLook
    people: list[Person]
    walks: list[Walk]
    fps: Fraction
    frames: int
    start: datetime


@dataclass(frozen=True)
class TrueBox:
    """Where one person is: the box of the whole body as drawn, clipped to the frame, in pixels, and the share of the
    body's pixels that are seen."""

    person_id: int
    box: tuple[float, float, float, float]
    visibility: float


class Stage:
    """The empty scene, ready for people to be painted into it."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.scene = scene
        self.picture, self.depth = paint(scene, SUPERSAMPLING, rng)
        view = scene.view
        rays = view.rays(1)
        with np.errstate(divide="ignore"):
            floor_depth = np.where(rays[..., 2] < -1e-4, -view.above_ground / rays[..., 2], np.inf)
        seen = cv2.resize(self.depth, (view.width, view.height), interpolation=cv2.INTER_NEAREST)
        self._floor = (np.abs(seen - floor_depth) < 0.35).astype(np.float32)

    def _cast_shadows(self, picture: NDArray[np.uint8], figures: list[tuple[Figure, Pose]]) -> None:
        """Darken the floor under and beside people, softly, in place."""
        view, light = self.scene.view, self.scene.towards_light
        for figure, pose in figures:
            hulls = []
            for fallen in figure.ground_shadow(pose, light):
                pixels, _ = view.project(np.column_stack([fallen, np.zeros(len(fallen))]))
                hulls.append(pixels)
            spread = max(1.2, view.focal / max(pose.y, 1.0) * 0.035)
            margin = int(3 * spread) + 2
            low = np.floor(np.min([hull.min(axis=0) for hull in hulls], axis=0)).astype(int) - margin
            high = np.ceil(np.max([hull.max(axis=0) for hull in hulls], axis=0)).astype(int) + margin
            left, top = max(0, int(low[0])), max(0, int(low[1]))
            right, bottom = min(view.width, int(high[0])), min(view.height, int(high[1]))
            if right - left < 2 or bottom - top < 2:
                continue
            mask = np.zeros((bottom - top, right - left), dtype=np.float32)
            for hull in hulls:
                corners = np.rint((hull - (left, top)) * 8).astype(np.int32)
                cv2.fillConvexPoly(mask, cv2.convexHull(corners), 1.0, cv2.LINE_8, 3)
            mask = cv2.GaussianBlur(mask, (0, 0), spread) * self._floor[top:bottom, left:right]
            patch = picture[top:bottom, left:right]
            patch[:] = np.rint(patch * (1 - 1.1 * self.scene.shadow * mask)[..., None]).astype(np.uint8)

    def compose(self, people: list[tuple[int, Figure, Pose]]) -> tuple[NDArray[np.uint8], list[TrueBox]]:
        """Paint people, given as (person id, figure, pose), into the scene, far to near.

        Returns the picture before the camera's look, (H, W, 3) uint8 BGR, and everyone's true box, by person id.
        """
        view = self.scene.view
        picture = self.picture.copy()
        self._cast_shadows(picture, [(figure, pose) for _, figure, pose in people])
        drawn = [(number, figure.draw(pose, view, self.scene.towards_light)) for number, figure, pose in people]
        drawn.sort(key=lambda item: -item[1].depth)
        owner = np.zeros((view.height * SUPERSAMPLING, view.width * SUPERSAMPLING), dtype=np.uint8)
        for layer, (_, figure) in enumerate(drawn, start=1):
            self._paste(picture, owner, figure, layer)
        truth = []
        for layer, (number, figure) in enumerate(drawn, start=1):
            true_box = self._true_box(number, figure, owner == layer)
            if true_box is not None:
                truth.append(true_box)
        return picture, sorted(truth, key=lambda item: item.person_id)

    def _paste(self, picture: NDArray[np.uint8], owner: NDArray[np.uint8], figure: DrawnFigure, layer: int) -> None:
        full_height, full_width = owner.shape
        left, top = max(0, figure.left), max(0, figure.top)
        right = min(full_width, figure.left + figure.image.shape[1])
        bottom = min(full_height, figure.top + figure.image.shape[0])
        if right <= left or bottom <= top:
            return
        image = figure.image[top - figure.top : bottom - figure.top, left - figure.left : right - figure.left]
        seen = (image[..., 3] > 0) & (self.depth[top:bottom, left:right] > figure.depth)
        owner[top:bottom, left:right][seen] = layer
        image = image * seen[..., None].astype(np.uint8)
        size = ((right - left) // SUPERSAMPLING, (bottom - top) // SUPERSAMPLING)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        region = picture[top // SUPERSAMPLING : bottom // SUPERSAMPLING, left // SUPERSAMPLING : right // SUPERSAMPLING]
        cover = small[..., 3:].astype(np.uint16)
        region[:] = small[..., :3] + (region * (255 - cover) // 255).astype(np.uint8)

    def _true_box(self, person_id: int, figure: DrawnFigure, seen: NDArray[np.bool_]) -> TrueBox | None:
        body = figure.image[..., 3] > 0
        rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
        view = self.scene.view
        x1 = max(0.0, (figure.left + int(columns[0])) / SUPERSAMPLING)
        y1 = max(0.0, (figure.top + int(rows[0])) / SUPERSAMPLING)
        x2 = min(float(view.width), (figure.left + int(columns[-1]) + 1) / SUPERSAMPLING)
        y2 = min(float(view.height), (figure.top + int(rows[-1]) + 1) / SUPERSAMPLING)
        if x2 - x1 < 2 or y2 - y1 < 2:
            return None
        return TrueBox(person_id, (x1, y1, x2, y2), int(seen.sum()) / int(body.sum()))


def frames(plan: CameraPlan) -> Iterator[tuple[NDArray[np.uint8], list[TrueBox]]]:
    """The recording's pictures before the codec, with their truth, in order."""
    view, look = plan.scene.view, plan.look
    rng = np.random.default_rng(np.random.SeedSequence(entropy=plan.seed, spawn_key=(7, plan.camera)))
    stage = Stage(plan.scene, rng)
    figures = {walk.person_id: Figure(plan.people[walk.person_id - 1]) for walk in plan.walks}
    grain = sensor_noise(rng, view.height + 48, view.width + 48, look.noise)
    falloff = vignette(view.height, view.width, look.vignette)
    drift_phase, drift_period = rng.uniform(0, 2 * np.pi), rng.uniform(35, 60)
    for number in range(plan.frames):
        now = float(number / plan.fps)
        people = []
        for walk in plan.walks:
            pose = walk.pose(now)
            if pose is not None:
                people.append((walk.person_id, figures[walk.person_id], pose))
        picture, truth = stage.compose(people)
        picture = cv2.multiply(picture, falloff, dtype=cv2.CV_8U)
        picture = look.develop(picture, 1 + 0.025 * np.sin(2 * np.pi * now / drift_period + drift_phase))
        shift_y, shift_x, bank = rng.integers(48), rng.integers(48), rng.integers(len(grain))
        noise = grain[bank][shift_y : shift_y + view.height, shift_x : shift_x + view.width]
        yield cv2.add(picture, noise, dtype=cv2.CV_8U), truth


def sensor_noise(rng: np.random.Generator, height: int, width: int, strength: float) -> list[NDArray[np.int16]]:
    """A few noise pictures (height, width, 3) int16, to be shifted about: cheaper than fresh noise for each frame."""
    banks = []
    for _ in range(4):
        luma = rng.normal(0, strength, (height, width, 1))
        chroma = rng.normal(0, 0.4 * strength, (height, width, 3))
        banks.append(np.rint(luma + chroma).astype(np.int16))
    return banks


def vignette(height: int, width: int, strength: float) -> NDArray[np.float32]:
    """How much light each pixel keeps, (H, W, 3) float32; the corners keep 1 - strength."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.repeat((1 - strength * (x**2 + y**2) / 2)[..., None], 3, axis=2).astype(np.float32)


def write_recording(plan: CameraPlan, video: Path, ground_truth: Path) -> Iterator[int]:
    """Render a recording and its ground truth; yields after each frame how many are done."""
    import av

    view = plan.scene.view
    rows = [GROUND_TRUTH_HEADER]
    with av.open(str(video), "w", options={"movflags": "+faststart"}) as container:
        container.metadata["creation_time"] = plan.start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        # One thread: x264 divides the picture among threads, and so the bytes would depend on the machine.
        stream = container.add_stream("libx264", rate=plan.fps, options={
            "crf": str(plan.look.crf), "preset": "veryfast", "threads": "1", "g": str(2 * round(plan.fps)),
        })  # fmt: skip
        stream.width, stream.height, stream.pix_fmt = view.width, view.height, "yuv420p"
        for number, (picture, truth) in enumerate(frames(plan)):
            for item in truth:
                box = ",".join(f"{side:.1f}" for side in item.box)
                rows.append(f"{number},{item.person_id},{box},{item.visibility:.4f}")
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")):
                container.mux(packet)
            yield number + 1
        for packet in stream.encode():
            container.mux(packet)
    ground_truth.write_text("\n".join(rows) + "\n", encoding="utf-8")
