"""Single crops of invented people, for pre-training: the same figures and camera looks as the demo, without a scene.

    from crops import render_crop
    from camera import random_camera_look
    from people import identity_stream, random_person

    rng = identity_stream("pretrain", n)        # a stream that no demo site draws from
    person, look = random_person(rng), random_camera_look(rng)
    crop = render_crop(person, look, rng)       # (128, 64, 3) uint8 BGR

To render many crops of one person make the mesh once: `figure = Figure(person)`, `render_crop(figure, look, rng)`.
"""

from functools import lru_cache

import cv2
import numpy as np
from camera import CameraLook, Pinhole
from figure import SUPERSAMPLING, Figure, Pose
from numpy.typing import NDArray
from people import Person

GROUND_TONES = ((172, 180, 186), (160, 164, 164), (134, 158, 178), (150, 150, 150), (120, 128, 140), (180, 176, 168))


@lru_cache(maxsize=1)
def _noise_bank() -> NDArray[np.float32]:
    """Fixed standard noise, cut at random places instead of drawn afresh for each crop."""
    return np.random.default_rng(0).standard_normal((320, 256, 3), dtype=np.float32)


def _backdrop(height: int, width: int, horizon: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Floor with joints below `horizon` (a row), something upright above it, perhaps a pillar: (H, W, 3) uint8."""
    tone = np.asarray(GROUND_TONES[int(rng.integers(len(GROUND_TONES)))], dtype=np.float64)
    floor = (tone * rng.uniform(0.75, 1.1)).tolist()
    wall = (tone * rng.uniform(0.6, 1.05) + rng.normal(0, 10, 3)).tolist()
    picture = np.empty((height, width, 3), dtype=np.uint8)
    picture[:] = np.clip(floor, 0, 255)
    line = int(np.clip(horizon, 0, height))
    picture[:line] = np.clip(wall, 0, 255)
    darker = [0.86 * channel for channel in floor]
    for _ in range(int(rng.integers(0, 5))):
        start = (int(rng.integers(-width, 2 * width)), line)
        end = (int(rng.integers(-width, 2 * width)), height)
        if rng.random() < 0.5:
            row = int(rng.integers(line, height + 1))
            start, end = (0, row), (width, row)
        cv2.line(picture, start, end, darker, 1 + int(height > 120))
    if rng.random() < 0.25:
        left = int(rng.integers(-width // 2, width))
        shade = (np.asarray(wall) * rng.uniform(0.7, 1.15)).clip(0, 255).tolist()
        cv2.rectangle(
            picture, (left, 0), (left + int(rng.integers(4, width)), line + int(rng.integers(0, 20))), shade, -1
        )
    return picture


def render_crop(
    person: Person | Figure,
    look: CameraLook,
    rng: np.random.Generator,
    *,
    size: tuple[int, int] = (128, 64),
    heading: float | None = None,
) -> NDArray[np.uint8]:
    """Draw one person as a detector would cut them out of a camera's picture.

    Args:
        person: the person, or their `Figure` when many crops of them are wanted.
        look: of the camera.
        rng: pose, distance, view, background, box error and occlusion come from it.
        size: (height, width) of the crop in pixels.
        heading: which way the person walks, radians; -π/2 is towards the camera, π/2 away, 0 and π sideways. None:
            any way.

    Returns:
        (height, width, 3) uint8 BGR. Drawn at the size it would have in the frame (80-200 px tall), then scaled.
    """
    figure = person if isinstance(person, Figure) else Figure(person)
    tall = rng.uniform(80, 200)
    distance = rng.uniform(5.0, 11.0)
    view = Pinhole(640, 360, tall * distance / figure.person.height, rng.uniform(2.4, 3.2), rng.uniform(0.15, 0.25))
    turned = rng.uniform(-np.pi, np.pi) if heading is None else heading
    pose = Pose(
        x=rng.uniform(-0.3, 0.3) * distance,
        y=distance,
        heading=turned,
        phase=rng.uniform(0, 2 * np.pi),
        swing=rng.uniform(0.36, 0.5) if rng.random() < 0.94 else 0.02,
    )
    light = np.array([rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.4), 1.0])
    drawn = figure.draw(pose, view, light / np.linalg.norm(light))
    body = cv2.resize(
        drawn.image,
        (drawn.image.shape[1] // SUPERSAMPLING, drawn.image.shape[0] // SUPERSAMPLING),
        interpolation=cv2.INTER_AREA,
    )
    height, width = body.shape[:2]
    pad = int(0.16 * height) + 2
    picture = _backdrop(height + 2 * pad, width + 2 * pad, pad + height * rng.uniform(-0.3, 0.8), rng)
    foot = pad + height - 2
    shade = picture[foot - height // 24 - 1 : foot + height // 24 + 1]
    shade[:, pad : pad + width] = (shade[:, pad : pad + width] * rng.uniform(0.7, 0.95)).astype(np.uint8)
    region = picture[pad : pad + height, pad : pad + width]
    cover = body[..., 3:].astype(np.uint16)
    region[:] = body[..., :3] + (region * (255 - cover) // 255).astype(np.uint8)
    if rng.random() < 0.12:
        # Something or somebody in front: one side or the legs.
        tone = tuple(rng.uniform(30, 200, 3).tolist())
        if rng.random() < 0.5:
            edge = int(rng.uniform(0.1, 0.35) * width) + pad
            span = (0, edge) if rng.random() < 0.5 else (picture.shape[1] - edge, picture.shape[1])
            picture[:, span[0] : span[1]] = tone
        else:
            picture[pad + int(rng.uniform(0.7, 0.92) * height) :] = tone

    error = rng.normal(0, 0.035, 4) * height
    top, bottom = pad + error[0] * 0.7, pad + height + error[1] * 0.7
    left, right = pad + error[2] * 0.6, pad + width + error[3] * 0.6
    y1, y2 = int(np.clip(top, 0, pad * 1.5)), int(np.clip(bottom, pad + height * 0.7, height + 2 * pad))
    x1, x2 = int(np.clip(left, 0, pad + width * 0.3)), int(np.clip(right, pad + width * 0.7, width + 2 * pad))
    crop = look.develop(picture[y1:y2, x1:x2], rng.uniform(0.93, 1.07))
    bank = _noise_bank()
    at_y, at_x = int(rng.integers(320 - 256)), int(rng.integers(bank.shape[1] - 16))
    noise = np.take(bank[at_y : at_y + crop.shape[0]], range(at_x, at_x + crop.shape[1]), axis=1, mode="wrap")
    if noise.shape != crop.shape:
        noise = cv2.resize(noise, (crop.shape[1], crop.shape[0]))
    crop = cv2.add(crop, noise * look.noise, dtype=cv2.CV_8U)
    packed = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, look.jpeg_quality])[1]
    crop = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    shrinking = crop.shape[0] >= size[0]
    return cv2.resize(crop, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
