"""Augmentation of whole batches as tensors, so that training needs no worker processes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from calr.precision import send


class Augment:
    """Mirror, shift, colour change and random erasing, drawn anew for each image.

    Mirror with probability 0.5; shift by zero-padding `pad` pixels and cropping back; brightness and contrast each by a
    factor in 1 ± `colour`, saturation likewise; with probability `erase` a rectangle of 2-40 % of the area and aspect
    0.3-3.3 is set to the mean colour of ImageNet (Zhong et al., AAAI 2020).

    Args:
        pad: pixels, 10 at 256 × 128 in the paper.
        colour: half-width of the colour factors; 0 = none.
        erase: probability of erasing.
        seed: the same seed gives the same augmentations, on any device.
    """

    MEAN = (123.675, 116.28, 103.53)

    def __init__(self, pad: int, colour: float, erase: float, seed: int) -> None:
        self.pad, self.colour, self.erase = pad, colour, erase
        self._draw = torch.Generator().manual_seed(seed)

    def _uniform(self, n: int, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=self._draw)

    def __call__(self, images: Tensor) -> Tensor:
        """images (B, 3, h, w) uint8 or float in 0..255, RGB -> float32 of the same shape and range."""
        n, _, h, w = images.shape
        device = images.device
        out = images.float()
        mean = send(torch.tensor(self.MEAN), device)[None, :, None, None]
        if self.colour > 0:
            factors = self._uniform(3 * n, 1 - self.colour, 1 + self.colour).reshape(3, n, 1, 1, 1)
            factors = send(factors, device)
            grey = out.mean(1, keepdim=True)
            out = grey + (out - grey) * factors[0]
            level = out.mean((1, 2, 3), keepdim=True)
            out = ((out - level) * factors[1] + level) * factors[2]
            out = out.clamp_(0, 255)
        row = torch.arange(h)[None, :] + torch.randint(-self.pad, self.pad + 1, (n, 1), generator=self._draw)
        column = torch.arange(w)[None, :] + torch.randint(-self.pad, self.pad + 1, (n, 1), generator=self._draw)
        mirrored = torch.rand(n, 1, generator=self._draw) < 0.5
        # Drawn on the CPU, a few numbers an image; what is as large as the images is made where they are.
        row, column = send(row, device), send(torch.where(mirrored, w - 1 - column, column), device)
        padded = F.pad(out, (self.pad, self.pad, self.pad, self.pad))
        # Indices into the padded image: one gather does the shift and the mirror.
        at = (row + self.pad)[:, :, None] * (w + 2 * self.pad) + (column + self.pad)[:, None, :]
        out = padded.flatten(2).gather(2, at.reshape(n, 1, h * w).expand(-1, 3, -1)).reshape(n, 3, h, w)
        if self.erase > 0:
            erased = torch.rand(n, generator=self._draw) < self.erase
            area = self._uniform(n, 0.02, 0.4) * h * w
            aspect = torch.exp(self._uniform(n, -1.2, 1.2))
            height = (area * aspect).sqrt().round().clamp(1, h)
            width = (area / aspect).sqrt().round().clamp(1, w)
            top = (torch.rand(n, generator=self._draw) * (h - height + 1)).floor()
            left = (torch.rand(n, generator=self._draw) * (w - width + 1)).floor()
            rows, columns = torch.arange(h)[None, :], torch.arange(w)[None, :]
            in_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None]) & erased[:, None]
            in_columns = (columns >= left[:, None]) & (columns < (left + width)[:, None])
            hole = send(in_rows, device)[:, :, None] & send(in_columns, device)[:, None, :]
            out = torch.where(hole[:, None], mean, out)
        return out
