"""Where people stand in an uploaded frame, by the detector that the site's recordings are looked at with."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gallery_service.errors import Busy, NoDetector
from gallery_service.schemas import PersonBox, PersonBoxes
from ingest.detection import Detector, DetectorError, make_detector
from ingest.site import Detector as DetectorConfig
from models.images import decode_image

MOST_BOXES = 100
# Frames are looked at one at a time; whoever comes when this many are there already is told to come again.
_AT_ONCE = 4
# Every frame is made a square of this side at most: then the detector sees one shape only, of which some keep a
# compiled network each, and a long thin picture costs no more than another.
_SIDE = 1920
_GREY = 114

_log = logging.getLogger("gallery_service")


class BoxProposer:
    """Proposes boxes; the weights are loaded for the first frame. Safe to use from several threads.

    Args:
        max_pixels: of a frame.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._detector: tuple[DetectorConfig, Detector] | None = None
        self._looking = threading.Lock()
        self._places = threading.BoundedSemaphore(_AT_ONCE)

    def propose(self, frame: bytes, config: DetectorConfig, folder: Path) -> PersonBoxes:
        """The people in a frame.

        Args:
            frame: a JPEG, PNG, WebP or BMP file. It is not kept.
            config: the site's detector, which may have changed since the last frame.
            folder: what relative paths in it start from.

        Returns:
            At most `MOST_BOXES`, the surest first.

        Raises:
            NoDetector: the site has none that can look at a single picture, or its weights cannot be used.
            Busy: too many frames are waiting.
            ImageError: the bytes are not an image that is accepted.
        """
        if config.weights is None:
            raise NoDetector(
                "this site's people are found by their motion, which a single picture does not show; draw the box by "
                "hand, or set 'detector: {weights: ...}' in site.yaml"
            )
        if not self._places.acquire(blocking=False):
            raise Busy("other pictures are being looked at; try again in a moment, or draw the box by hand")
        try:
            with self._looking:
                image = decode_image(frame, what="the uploaded image", max_pixels=self._max_pixels)
                return self._look(image, config, folder)
        except DetectorError as error:
            _log.error("the detector of site.yaml cannot be used: %s", error)
            raise NoDetector(
                "this site's detector cannot be used, the service's log says why; draw the box by hand"
            ) from None
        finally:
            self._places.release()

    def _look(self, image: NDArray[np.uint8], config: DetectorConfig, folder: Path) -> PersonBoxes:
        from ingest.recording import DEFAULT_MIN_SCORE

        if self._detector is None or self._detector[0] != config:
            self._detector = config, make_detector(config, folder)
        detector = self._detector[1]
        height, width = image.shape[:2]
        square, scale = _square(image)
        detector.begin([])
        found = detector.detect(square)
        lowest = DEFAULT_MIN_SCORE if config.min_score is None else config.min_score
        boxes = np.clip(found.boxes.astype(np.float64) / scale / [width, height, width, height], 0.0, 1.0)
        people = []
        for number in np.argsort(-found.scores, kind="stable"):
            x1, y1, x2, y2 = (round(float(side), 5) for side in boxes[number])
            if found.scores[number] >= lowest and x1 < x2 and y1 < y2:
                people.append(PersonBox(box=(x1, y1, x2, y2), score=round(float(found.scores[number]), 4)))
        return PersonBoxes(width=width, height=height, detector=detector.name, people=people[:MOST_BOXES])


def _square(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """The picture in the upper left of a square, and by how much it was scaled."""
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    square = np.full((max(image.shape[:2]), max(image.shape[:2]), 3), _GREY, np.uint8)
    square[: image.shape[0], : image.shape[1]] = image
    return square, scale
