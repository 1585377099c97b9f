"""How well a crop shows one whole person, from 0 to 1.

quality = whole × alone × (size + sharp) / 2

size   height of the box / 128, at most 1: below 128 pixels detail is missing, above it the model sees no more
sharp  v / (v + 300), v the variance of the Laplacian of the grey crop scaled to 64×128 (width × height): blurred and
       empty crops have little of it, and scaling first makes crops of different sizes comparable
whole  0.5 for each frame border (left, right, top, bottom) the box touches, multiplied: someone is cut off there
alone  1 − the largest share of the box covered by another box: by all of it when that one stands in front (its feet
       are lower in the image), by half when it stands behind
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_FULL_HEIGHT = 128.0
_SHARP_HALF = 300.0
_BORDER_PX = 2.0
_SCALED = (64, 128)
_FEWEST_WHOLE = 0.5
_LEAST_ALONE = 0.3
_LEAST_SHARP = 0.02  # people 60 pixels tall in a real plaza have 0.056 and more


@dataclass(frozen=True)
class View:
    """How well one crop shows a person; the parts of the formula at the top of this file."""

    size: float
    sharp: float
    whole: float
    alone: float

    def quality(self, score: float) -> float:
        """`quality` of the formula, 0..1. score: the detector's, 0..1."""
        return score * self.whole * self.alone * (self.size + self.sharp) / 2

    @property
    def fault(self) -> str | None:
        """Why the crop is of no use at all, or None: "cut off" (by two borders of the frame or more), "covered" (mostly
        by another box) or "blurred" (hardly any detail)."""
        if self.whole < _FEWEST_WHOLE:
            return "cut off"
        if self.alone < _LEAST_ALONE:
            return "covered"
        if self.sharp < _LEAST_SHARP:
            return "blurred"
        return None


def view(
    crop: NDArray[np.uint8], box: NDArray[np.float32], others: NDArray[np.float32], frame_size: tuple[int, int]
) -> View:
    """Measure one crop.

    Args:
        crop: (h, w, 3) uint8 BGR, not empty.
        box: (4,), x1, y1, x2, y2 in pixels of the frame.
        others: (n, 4), the other boxes of the same frame.
        frame_size: (width, height) of the frame in pixels.
    """
    size = min(1.0, max(0.0, float(box[3] - box[1])) / _FULL_HEIGHT)
    return View(size, sharpness(crop), whole(box, frame_size), alone(box, others))


def sharpness(crop: NDArray[np.uint8]) -> float:
    """`sharp` of the formula, in [0, 1)."""
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    shrinks = grey.shape[0] > _SCALED[1] or grey.shape[1] > _SCALED[0]
    scaled = cv2.resize(grey, _SCALED, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    variance = float(cv2.Laplacian(scaled, cv2.CV_64F).var())
    return variance / (variance + _SHARP_HALF)


def whole(box: NDArray[np.float32], frame_size: tuple[int, int]) -> float:
    """`whole` of the formula: 1, 0.5, 0.25, ..."""
    width, height = frame_size
    touched = (
        int(box[0] <= _BORDER_PX)
        + int(box[1] <= _BORDER_PX)
        + int(box[2] >= width - _BORDER_PX)
        + int(box[3] >= height - _BORDER_PX)
    )
    return float(0.5**touched)


def alone(box: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """`alone` of the formula, in [0, 1]."""
    area = float((box[2] - box[0]) * (box[3] - box[1]))
    if len(others) == 0 or area <= 0:
        return 1.0
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    covered = np.clip(width, 0, None) * np.clip(height, 0, None) / area
    in_front = others[:, 3] > box[3]
    return 1.0 - min(1.0, float(np.max(np.where(in_front, covered, covered / 2))))
