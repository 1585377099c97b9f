"""What a person wears, roughly: colour histograms of the upper and the lower half of a box.

Good enough to notice that a track has jumped to somebody else inside one camera within seconds; never used to tell
people apart across cameras or times.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BINS = 16
_PARTS = ((0.10, 0.50), (0.50, 0.95))  # of the height: no head, no ground
_SIDES = 0.2  # of the width: background


def appearance(image: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Histograms of lightness and both colour axes (CIE L*a*b*), of the upper and the lower half.

    Args:
        image: (H, W, 3) uint8 BGR.
        box: (4,), x1, y1, x2, y2 in pixels, inside the image.

    Returns:
        (6, BINS) float32, each row summing to 1.
    """
    x1, y1, x2, y2 = (int(value) for value in box)
    height, width = max(1, y2 - y1), max(1, x2 - x1)
    left, right = x1 + int(_SIDES * width), x2 - int(_SIDES * width)
    rows = []
    for top, bottom in _PARTS:
        part = image[y1 + int(top * height) : max(y1 + int(bottom * height), y1 + int(top * height) + 1), left:right]
        if part.size == 0:
            part = np.zeros((1, 1, 3), np.uint8)
        lab = cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_BGR2LAB)
        rows += [
            cv2.calcHist([lab], [channel], None, [BINS], [0, 256]).ravel() / lab[..., 0].size for channel in range(3)
        ]
    return np.stack(rows).astype(np.float32)


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean Hellinger distance of the histograms of two appearances: 0 the same, 1 nothing in common."""
    shared = np.sqrt(one * other).sum(axis=1)
    return float(np.sqrt(np.clip(1 - shared, 0, None)).mean())
