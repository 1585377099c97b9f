"""MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import mobilenet_v2


class HalvingDepthwiseConv(nn.Conv2d):
    """A 3×3 depthwise convolution of stride 2, trained as one of stride 1 of which every other row and column is kept.

    The result is the same. oneDNN has no fast gradient for the strided form on CPUs: on one core (AVX-512, bfloat16, 32
    crops of 256 × 128) the four of them took 980 of 1,400 ms of a training step, and now the step takes 900.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.is_cuda or not self.training:
            return super().forward(x)
        kept = F.conv2d(x, self.weight, padding=1, groups=self.groups)[..., ::2, ::2]
        return kept.contiguous(memory_format=torch.channels_last)


class MobileNetV2(nn.Module):
    """The convolutional body: images (N, 3, H, W) to feature maps (N, 1280, H/32, W/32), torchvision's parameter names.

    The strides stay as they were trained: unlike in ResNet-50, the layers behind the last stride hold a third of the
    work, and it would quadruple; who takes this network takes it for its speed.
    """

    def __init__(self) -> None:
        super().__init__()
        body: Any = mobilenet_v2(weights=None)
        self.features: nn.Sequential = body.features
        for block in self.features.modules():
            if isinstance(block, nn.Sequential) and isinstance(block[0], nn.Conv2d):
                conv = block[0]
                if conv.groups == conv.in_channels and conv.stride == (2, 2):
                    block[0] = HalvingDepthwiseConv(conv.in_channels)
        self.channels = 1280

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.features(images)
        return out
