"""MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.models import mobilenet_v2


class MobileNetV2(nn.Module):
    """The convolutional body: images (N, 3, H, W) to feature maps (N, 1280, H/32, W/32), torchvision's parameter names.

    The strides stay as they were trained: unlike in ResNet-50, the layers behind the last stride hold a third of the
    work, and it would quadruple; who takes this network takes it for its speed.
    """

    def __init__(self) -> None:
        super().__init__()
        body: Any = mobilenet_v2(weights=None)
        self.features: nn.Sequential = body.features
        self.channels = 1280

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.features(images)
        return out
