"""Regions of a camera's picture: what nobody may see is black before anything else happens to it, and where nobody is
looked for."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Polygon = Sequence[tuple[float, float]]
"""Corners in fractions of the frame's width and height."""


def black_out(image: NDArray[np.uint8], mask: Sequence[Polygon]) -> NDArray[np.uint8]:
    """The picture with the polygons filled black; the one given is left as it is.

    Args:
        image: (H, W, 3) BGR.
        mask: polygons; each is filled by itself, because filled together, overlaps would stay visible (even-odd rule).

    Returns:
        (H, W, 3); the very image given where there is no mask.
    """
    if not mask:
        return image
    height, width = image.shape[:2]
    image = np.ascontiguousarray(image).copy()
    for polygon in mask:
        corners = np.round(np.asarray(polygon, np.float64) * (width, height)).astype(np.int32)
        cv2.fillPoly(image, [corners], (0, 0, 0))
    return image


def stands_in(boxes: NDArray[np.float32], zones: Sequence[Polygon], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which boxes stand in one of the zones: the middle of their lower edge lies inside or on the border.

    Args:
        boxes: (n, 4), x1, y1, x2, y2 in pixels.
        zones: polygons in fractions of the frame.
        size: (width, height) of the frame in pixels.

    Returns:
        (n,) bool.
    """
    found = np.zeros(len(boxes), np.bool_)
    for zone in zones:
        corners = (np.asarray(zone, np.float64) * size).astype(np.float32)
        for index, box in enumerate(boxes):
            feet = (float(box[0] + box[2]) / 2, float(box[3]))
            found[index] |= cv2.pointPolygonTest(corners, feet, False) >= 0
    return found
