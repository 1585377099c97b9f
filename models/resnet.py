"""ResNet-50 as re-identification uses it: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.models import resnet50


class ResNet50(nn.Module):
    """The convolutional body: images (N, 3, H, W) to feature maps (N, 2048, H/16, W/16).

    Parameter names are torchvision's. The last stage has stride 1 instead of 2: a person's crop is small, and the map
    that is pooled then has four times as many positions, at no parameter (Luo et al., "Bag of Tricks and a Strong
    Baseline for Deep Person Re-identification", CVPR Workshops 2019, section 3.5).
    """

    def __init__(self) -> None:
        super().__init__()
        body: Any = resnet50(weights=None)
        body.layer4[0].conv2.stride = (1, 1)
        body.layer4[0].downsample[0].stride = (1, 1)
        self.conv1: nn.Module = body.conv1
        self.bn1: nn.Module = body.bn1
        self.relu: nn.Module = body.relu
        self.maxpool: nn.Module = body.maxpool
        self.layer1: nn.Sequential = body.layer1
        self.layer2: nn.Sequential = body.layer2
        self.layer3: nn.Sequential = body.layer3
        self.layer4: nn.Sequential = body.layer4
        self.channels = 2048

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        out: torch.Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return out
