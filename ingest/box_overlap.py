"""How much boxes overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Intersection over union of boxes (n, 4) and (m, 4): float64 (n, m)."""
    a64, b64 = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    width = np.clip(np.minimum(a64[..., 2], b64[..., 2]) - np.maximum(a64[..., 0], b64[..., 0]), 0, None)
    height = np.clip(np.minimum(a64[..., 3], b64[..., 3]) - np.maximum(a64[..., 1], b64[..., 1]), 0, None)
    both = width * height
    area_a = (a64[..., 2] - a64[..., 0]) * (a64[..., 3] - a64[..., 1])
    area_b = (b64[..., 2] - b64[..., 0]) * (b64[..., 3] - b64[..., 1])
    either = area_a + area_b - both
    return np.where(either > 0, both / np.where(either > 0, either, 1.0), 0.0)
