"""How a camera sees: where it hangs (pinhole geometry) and what its electronics do to colours (the look).

Scene frame: x to the camera's right, y away from it, z up, metres; the camera hangs above the origin and looks along y,
tilted down.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pinhole:
    """An ideal camera: frame size and focal length in pixels, height above the ground in metres, tilt in radians."""

    width: int
    height: int
    focal: float
    above_ground: float
    tilt: float

    @cached_property
    def position(self) -> Array:
        """Where it hangs, (3,)."""
        return np.array([0.0, 0.0, self.above_ground])

    @cached_property
    def axes(self) -> Array:
        """Rows: right, down and forward in the scene, (3, 3)."""
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        return np.array([[1.0, 0.0, 0.0], [0.0, -s, -c], [0.0, c, -s]])

    def project(self, points: Array) -> tuple[Array, Array]:
        """Scene points (N, 3) -> pixels (N, 2) and depth along the axis (N,). Points behind it make no sense here."""
        seen = (points - self.position) @ self.axes.T
        depth = np.maximum(seen[:, 2], 0.05)
        centre = np.array([self.width / 2, self.height / 2])
        return seen[:, :2] * (self.focal / depth)[:, None] + centre, depth

    def rays(self, scale: int) -> Array:
        """Directions through the pixel centres of a frame `scale` times as fine, (H * scale, W * scale, 3), depth 1."""
        u = (np.arange(self.width * scale) + 0.5) / scale - self.width / 2
        v = (np.arange(self.height * scale) + 0.5) / scale - self.height / 2
        directions = np.empty((len(v), len(u), 3), dtype=np.float32)
        right, down, forward = self.axes.astype(np.float32)
        directions[:] = forward
        directions += (u / self.focal).astype(np.float32)[None, :, None] * right
        directions += (v / self.focal).astype(np.float32)[:, None, None] * down
        return directions


@dataclass(frozen=True)
class CameraLook:
    """What a camera does to the light. Gains are per BGR channel; blur and noise are in pixels and grey levels of the
    finished frame; `jpeg_quality` stands for the codec when a crop is drawn alone, `crf` is the codec's own setting."""

    gain: tuple[float, float, float]
    gamma: float
    contrast: float
    saturation: float
    blur: float
    noise: float
    vignette: float
    jpeg_quality: int
    crf: int

    def table(self, brightness: float = 1.0) -> NDArray[np.uint8]:
        """Gain, contrast and gamma as one lookup table, (256, 1, 3) uint8."""
        level = np.arange(256) / 255.0
        columns = []
        for gain in self.gain:
            value = np.clip(level * gain * brightness, 0, 1) ** self.gamma
            columns.append(np.clip((value - 0.5) * self.contrast + 0.5, 0, 1))
        return np.rint(np.stack(columns, axis=-1) * 255).astype(np.uint8)[:, None, :]

    def develop(self, image: NDArray[np.uint8], brightness: float = 1.0) -> NDArray[np.uint8]:
        """Saturation, colours and blur, without noise, vignette and codec. (H, W, 3) uint8 BGR in and out."""
        if self.saturation != 1.0:
            grey = np.array([0.114, 0.587, 0.299])
            matrix = self.saturation * np.eye(3) + (1 - self.saturation) * grey[None, :]
            image = cv2.transform(image, matrix)
        image = cv2.LUT(image, self.table(brightness))
        if self.blur > 0.05:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        return image


def random_camera_look(rng: np.random.Generator) -> CameraLook:
    """Draw the look of some camera; wide enough to hold those of the demo's own cameras."""
    warmth, green = rng.normal(0, 0.09), rng.normal(0, 0.04)
    exposure = rng.uniform(0.78, 1.16)
    gain = exposure * np.array([1 - warmth, 1 + green, 1 + warmth])
    return CameraLook(
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        gamma=float(rng.uniform(0.78, 1.3)),
        contrast=float(rng.uniform(0.78, 1.15)),
        saturation=float(rng.uniform(0.55, 1.2)),
        blur=float(rng.uniform(0.0, 1.0)),
        noise=float(rng.uniform(0.5, 5.0)),
        vignette=float(rng.uniform(0.0, 0.3)),
        jpeg_quality=int(rng.integers(45, 92)),
        crf=int(rng.integers(21, 29)),
    )
