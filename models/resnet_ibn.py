"""IBN-ResNet50-a: Pan et al., "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018
(arXiv 1807.09441)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from models.resnet import ResNet50


class InstanceBatchNorm(nn.Module):
    """IBN-a (paper, figure 3a): instance norm for the first half of the channels, batch norm for the rest. Instance
    norm takes away what differs by camera (colour, light); batch norm keeps what tells people apart.

    ``IN`` and ``BN`` are the names in the authors' released weights.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.instance_channels = channels // 2
        self.IN = nn.InstanceNorm2d(self.instance_channels, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.instance_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, rest = x[:, : self.instance_channels], x[:, self.instance_channels :]
        return torch.cat((self.IN(first.contiguous()), self.BN(rest.contiguous())), dim=1)


class IbnResNet50a(ResNet50):
    """:class:`models.resnet.ResNet50` whose first norm in every block of the first three stages is IBN-a; the last
    stage keeps batch norm, because deep features differ by content, not by appearance (section 3.3)."""

    def __init__(self) -> None:
        super().__init__()
        for stage in (self.layer1, self.layer2, self.layer3):
            for block in stage:
                bottleneck: Any = block
                bottleneck.bn1 = InstanceBatchNorm(bottleneck.bn1.num_features)
