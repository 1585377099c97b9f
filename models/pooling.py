"""From a feature map to one vector."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Pooling = Literal["avg", "gem"]
POOLINGS: tuple[Pooling, ...] = ("avg", "gem")


class AveragePooling(nn.Module):
    """(N, C, H, W) to (N, C), the mean over all positions."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean((2, 3))


class GemPooling(nn.Module):
    """Generalised mean, (Σ xᵖ / HW)^(1/p), with a learned p: Radenović et al., "Fine-tuning CNN Image Retrieval with No
    Human Annotation", TPAMI 2019, eq. 3. p = 1 is the mean, p → ∞ the maximum.

    Args:
        p: where the exponent starts (3 in the paper).
        floor: smallest value, so that powers and their gradients exist.
    """

    def __init__(self, p: float = 3.0, floor: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))
        self.floor = floor

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        # float32 also under autocast: bfloat16 has 8 bits of precision, and a power multiplies its error by p.
        powers = maps.float().clamp(min=self.floor).pow(self.p)
        return powers.mean((2, 3)).pow(1.0 / self.p)


def make_pooling(name: Pooling) -> nn.Module:
    """Build a pooling layer by name. Raises ValueError for an unknown one."""
    if name == "avg":
        return AveragePooling()
    if name == "gem":
        return GemPooling()
    raise ValueError(f"unknown pooling {name!r}; known: {', '.join(POOLINGS)}")
