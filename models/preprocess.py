"""From a crop to the network's input. One definition for training, export and search: a model judged on one resize and
used on another loses accuracy silently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

PIXEL_MEAN = (0.485, 0.456, 0.406)
"""ImageNet's mean of R, G, B on a scale of 0..1; every pretrained network used here was trained with it."""

PIXEL_STD = (0.229, 0.224, 0.225)
"""ImageNet's standard deviation of R, G, B on a scale of 0..1."""


def resize_crop(bgr: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Stretch a crop to the network's input size: area average along an axis that shrinks (no aliasing), linear
    along an axis that grows.

    Args:
        bgr: (H, W, 3) uint8, blue first.
        size: (height, width) in pixels.

    Returns:
        (height, width, 3) uint8, **red first**.

    Raises:
        ValueError: the array is not an image.
    """
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.size == 0:
        raise ValueError(f"a crop must be (H, W, 3) uint8 and not empty, got {bgr.shape} {bgr.dtype}")
    height, width = size
    shrunk = (min(bgr.shape[0], height), min(bgr.shape[1], width))
    if shrunk != bgr.shape[:2]:
        bgr = cv2.resize(bgr, (shrunk[1], shrunk[0]), interpolation=cv2.INTER_AREA)
    if shrunk != (height, width):
        bgr = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(bgr[:, :, ::-1])


def to_batch(crops: Sequence[npt.NDArray[np.uint8]], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize crops and stack them: (N, 3, height, width) float32, RGB, 0..255. That is what the exported graph takes;
    it normalises inside. N may be 0."""
    batch = np.empty((len(crops), 3, *size), dtype=np.float32)
    for i, crop in enumerate(crops):
        batch[i] = resize_crop(crop, size).transpose(2, 0, 1)
    return batch


def normalise(images: torch.Tensor) -> torch.Tensor:
    """The training side of what the exported graph does first.

    Args:
        images: (N, 3, H, W), RGB, 0..255, any real dtype.

    Returns:
        float32 (or the input's own floating dtype), channel-wise ``(x/255 − mean) / std``.
    """
    # Only training normalises outside the graph; searching should not take the seconds that importing torch does.
    import torch

    if not images.is_floating_point():
        images = images.float()
    mean, std = (
        (torch.tensor(values, dtype=images.dtype).view(1, 3, 1, 1) * 255).to(images.device, non_blocking=True)
        for values in (PIXEL_MEAN, PIXEL_STD)
    )
    return (images - mean) / std
