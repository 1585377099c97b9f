"""What a person detector is to the rest of ingest, and which one a site gets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ingest import site


class DetectorError(ValueError):
    """A detector that cannot be had as the site asks for it; the message says what to do."""


@dataclass(frozen=True)
class Detections:
    """The people found in one frame.

    Attributes:
        boxes: float32 (n, 4), x1, y1, x2, y2 in pixels of the frame given to the detector.
        scores: float32 (n,), 0..1.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4 or self.scores.shape != (len(self.boxes),):
            raise ValueError(f"boxes {self.boxes.shape} and scores {self.scores.shape} must be (n, 4) and (n,)")

    def __len__(self) -> int:
        return len(self.scores)

    def keep(self, mask: NDArray[np.bool_]) -> Detections:
        """The detections where `mask` (n,) is true, in order."""
        return Detections(self.boxes[mask], self.scores[mask])

    @staticmethod
    def none() -> Detections:
        """No one."""
        return Detections(np.zeros((0, 4), np.float32), np.zeros((0,), np.float32))


class Detector(Protocol):
    """Finds people in the frames of one video after the other.

    `detect` is called with the looked-at frames of a video in order, after `begin`; a detector may keep what it saw of
    this video (a background model), never of an earlier one. Making one must be cheap: weights are loaded at the first
    `detect`. The same frames must give the same detections.
    """

    @property
    def name(self) -> str:
        """Short name for people, such as "motion"."""
        ...

    def fingerprint(self) -> str:
        """Changes exactly when the same frames might give other detections (weights, settings, method)."""
        ...

    def begin(self, preview: Iterable[NDArray[np.uint8]]) -> None:
        """Forget the previous video and prepare for the next.

        Args:
            preview: its looked-at frames from the first on, for a detector that has to get to know the place; they are
                decoded only as far as they are asked for, and given to `detect` again.
        """
        ...

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        """People in a frame (height, width, 3), uint8 BGR. Low scores included: the tracker wants them."""
        ...


def make_detector(config: site.Detector, folder: Path) -> Detector:
    """The detector a site asks for.

    Args:
        config: the `detector` of site.yaml.
        folder: of site.yaml, which a relative weights path starts from.

    Raises:
        DetectorError: the weights are not there or not what their checksum says.
    """
    if config.weights is None:
        from ingest.motion import MotionDetector

        return MotionDetector()
    from ingest.yolo import YoloDetector

    return YoloDetector(config.weights, folder, image_size=config.image_size)
