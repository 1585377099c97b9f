"""Camera alignment: features from which the camera cannot be told (CALR section 3.5), by gradient reversal (Ganin &
Lempitsky, ICML 2015)."""

from typing import Any

import torch
from torch import Tensor, nn


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * grads[0], None


def reverse_gradient(features: Tensor, strength: float = 1.0) -> Tensor:
    """The same values; on the way back the gradient is multiplied by -strength."""
    out: Tensor = _Reverse.apply(features, strength)
    return out


class CameraClassifier(nn.Module):
    """Two hidden layers of 100, batch-normalised, then one logit per camera.

    The published code applies cross-entropy to probabilities that are already normalised, so its camera loss can hardly
    move; here cross-entropy gets the logits.

    Args:
        embedding_dim: D of the features.
        cameras: number of cameras.
        strength: factor of the reversed gradient.
    """

    def __init__(self, embedding_dim: int, cameras: int, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength
        self.layers = nn.Sequential(
            nn.Linear(embedding_dim, 100),
            nn.BatchNorm1d(100),
            nn.ReLU(),
            nn.Linear(100, 100),
            nn.BatchNorm1d(100),
            nn.ReLU(),
            nn.Linear(100, cameras),
        )

    def forward(self, features: Tensor) -> Tensor:
        """features (B, D) -> logits (B, cameras); the gradient that reaches the features is reversed."""
        logits: Tensor = self.layers(reverse_gradient(features, self.strength))
        return logits
