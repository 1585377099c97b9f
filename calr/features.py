"""Features of all crops, as clustering sees them: the network in evaluation mode, no augmentation, length 1."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from calr.precision import Precision
from models.preprocess import normalise


@torch.no_grad()
def extract(
    net: nn.Module,
    images: Tensor,
    precision: Precision,
    batch_size: int = 64,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """L2-normalised features.

    Args:
        net: maps normalised images (B, 3, h, w) to (B, D). Left in the mode (training or evaluation) it came in.
        images: (N, 3, h, w) uint8 RGB.
        precision: device and number format to compute with.
        batch_size: images at once.
        on_step: told (done, total) after every batch.

    Returns:
        (N, D) float32, in the order of `images`.
    """
    training = net.training
    net.eval()
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(images), batch_size):
        batch = precision.place(images[start : start + batch_size])
        with precision.autocast():
            out = net(normalise(batch.float()).contiguous(memory_format=torch.channels_last))
        parts.append(F.normalize(out.float(), dim=1).cpu().numpy())
        on_step(min(start + batch_size, len(images)), len(images))
    net.train(training)
    return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)
