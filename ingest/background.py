"""What a fixed camera sees when nobody is there, and which pixels of a frame are something else.

The picture of the empty place starts as the per-pixel median of the first seconds, in which passers-by leave no trace,
and then follows slow changes of the light. A frame is compared with it after one gain per channel has been taken out
(automatic exposure, a cloud). Pixels that are the background made darker without change of colour are shadow: with
I the pixel and B its background, I is split into alpha * B and a remainder (Horprasert, Harwood and Davis 1999,
"A statistical approach for real-time robust background subtraction"); a small remainder with alpha below 1 is shadow.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Map = NDArray[np.float32]

# Frames after which the median of what was seen so far becomes the background.
_MEDIAN_AFTER = (2, 4, 7, 12, 20, 30, 45)
_MOST_SAMPLES = 15
_LEARN = 0.03
_NOISE_LEARN = 0.02
_FLOOR = 10.0  # smallest difference in grey levels (Euclidean over the channels) that counts
_NOISE_FACTOR = 2.0
_SHADOW_DARKEST = 0.5
_SHADOW_REMAINDER = 5.0
_SUM = np.ones((1, 3), dtype=np.float32)


class Background:
    """The background of one recording, learned as its frames come."""

    def __init__(self) -> None:
        self._frames = 0
        self._samples: list[Image] = []
        self._picture: Map | None = None
        self._noise: Map | None = None
        self.gain: Map = np.ones(3, dtype=np.float32)

    @property
    def learned_frames(self) -> int:
        """How many frames it has seen."""
        return self._frames

    def predicted(self) -> Map:
        """What the present light makes of the empty place: (H, W, 3) float32 BGR."""
        assert self._picture is not None
        return self._picture * self.gain

    def compare(self, image: Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Find what is not background.

        Args:
            image: (H, W, 3) uint8 BGR, all of one size.

        Returns:
            `different` and `certain`, (H, W) uint8 0 or 1: pixels that differ and are no shadow, and those of them that
            differ clearly.
        """
        self._collect(image)
        assert self._picture is not None and self._noise is not None
        seen = image.astype(np.float32)
        self._follow_light(seen)
        expected = self.predicted()
        difference = seen - expected
        distance = cv2.transform(difference * difference, _SUM)
        norm = cv2.transform(expected * expected, _SUM) + 1.0
        alpha = cv2.transform(seen * expected, _SUM) / norm
        remainder = distance - (alpha - 1) ** 2 * norm
        limit = _FLOOR + _NOISE_FACTOR * self._noise
        limit *= limit
        shadow = (alpha < 1) & (alpha > _SHADOW_DARKEST) & (remainder < _SHADOW_REMAINDER**2)
        self._distance = distance
        different = ((distance > limit) & ~shadow).astype(np.uint8)
        certain = ((distance > 4 * limit) & ~shadow).astype(np.uint8)
        return different, certain

    def learn(self, image: Image, keep: NDArray[np.uint8], absorb: NDArray[np.uint8] | None = None) -> None:
        """Take over what is background in the frame that was just compared.

        Args:
            image: that frame.
            keep: (H, W), non-zero where something stands before the background, which is left as it is.
            absorb: (H, W), non-zero where the frame itself is the background from now on (somebody who was taken for
                background has left).
        """
        assert self._picture is not None and self._noise is not None
        seen = image.astype(np.float32) / self.gain
        rate = np.where(keep > 0, np.float32(0), np.float32(_LEARN))
        if absorb is not None:
            rate[absorb > 0] = 1.0
        self._picture += (seen - self._picture) * rate[..., None]
        deviation = np.sqrt(np.maximum(self._distance, 0))
        self._noise += (np.minimum(deviation, 40) - self._noise) * (rate > 0) * np.float32(_NOISE_LEARN)
        # The light that lasts becomes part of the picture, so that the gain stays near 1.
        step = 1 + 0.1 * (self.gain - 1)
        self._picture *= step
        self.gain = self.gain / step

    def _collect(self, image: Image) -> None:
        if self._picture is None or self._picture.shape != image.shape:
            self.__init__()  # type: ignore[misc]
            self._picture = image.astype(np.float32)
            self._noise = np.zeros(image.shape[:2], dtype=np.float32)
            self._samples = [image.copy()]
        self._frames += 1
        if self._frames > _MEDIAN_AFTER[-1]:
            return
        if self._frames > 1 and (self._frames <= 8 or self._frames % 3 == 0):
            self._samples.append(image.copy())
            if len(self._samples) > _MOST_SAMPLES:
                del self._samples[1::2]
        if self._frames in _MEDIAN_AFTER:
            # The lower middle: np.median would make floats of it and take four times as long.
            stack = np.stack(self._samples)
            self._picture = np.partition(stack, len(stack) // 2, axis=0)[len(stack) // 2].astype(np.float32)
            self.gain = np.ones(3, dtype=np.float32)
            if self._frames == _MEDIAN_AFTER[-1]:
                self._samples = []

    def _follow_light(self, seen: Map) -> None:
        assert self._picture is not None
        here, there = seen[4::9, 4::9].reshape(-1, 3), self._picture[4::9, 4::9].reshape(-1, 3)
        usable = (there > 12).all(axis=1) & (here < 250).all(axis=1) & (there < 250).all(axis=1)
        if usable.sum() >= 50:
            self.gain = np.clip(np.median(here[usable] / there[usable], axis=0), 0.2, 5.0).astype(np.float32)
