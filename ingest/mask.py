"""A camera's mask: what nobody may see is black before anything else happens to a picture."""

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
