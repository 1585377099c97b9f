"""OSNet: Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019 (arXiv 1905.00953).

Modules carry the parameter names of the authors' library (torchreid), so that weights published for it load.
"""

from __future__ import annotations

import torch
from torch import nn

CHANNELS = {
    "osnet_x0_25": (16, 64, 96, 128),
    "osnet_x1_0": (64, 256, 384, 512),
}
"""Width of the stem and of the three stages (paper, table 1; x0_25 is the width multiplier of section 4.4)."""

FEATURE_DIM = 512
"""Width of the fully connected layer behind the pooling, the same for every width of the body (paper, table 1)."""


class ConvLayer(nn.Module):
    """Convolution, batch norm and, unless ``linear``, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, *, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu: nn.Module = nn.Identity() if linear else nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.relu(self.bn(self.conv(x)))
        return out


class LightConv3x3(nn.Module):
    """The paper's Lite 3×3 (section 3.1): a pointwise and then a depthwise convolution, without a non-linearity
    between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False, groups=channels)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.relu(self.bn(self.conv2(self.conv1(x))))
        return out


class ChannelGate(nn.Module):
    """The unified aggregation gate (section 3.2): one weight per channel from the globally pooled stream. All streams
    of a block share it."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))))
        return x * weight


class OSBlock(nn.Module):
    """Omni-scale residual block (figure 4): four streams of one to four Lite 3×3, gated, summed."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        middle = outputs // 4
        self.conv1 = ConvLayer(inputs, middle, 1)
        self.conv2a = LightConv3x3(middle)
        self.conv2b = nn.Sequential(*(LightConv3x3(middle) for _ in range(2)))
        self.conv2c = nn.Sequential(*(LightConv3x3(middle) for _ in range(3)))
        self.conv2d = nn.Sequential(*(LightConv3x3(middle) for _ in range(4)))
        self.gate = ChannelGate(middle)
        self.conv3 = ConvLayer(middle, outputs, 1, linear=True)
        self.downsample: nn.Module = nn.Identity() if inputs == outputs else ConvLayer(inputs, outputs, 1, linear=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        streams = (self.conv2a(y), self.conv2b(y), self.conv2c(y), self.conv2d(y))
        y = sum(self.gate(stream) for stream in streams)
        return torch.relu(self.conv3(y) + self.downsample(x))


def _stage(inputs: int, outputs: int, *, shrink: bool) -> nn.Sequential:
    blocks: list[nn.Module] = [OSBlock(inputs, outputs), OSBlock(outputs, outputs)]
    if shrink:
        blocks.append(nn.Sequential(ConvLayer(outputs, outputs, 1), nn.AvgPool2d(2, stride=2)))
    return nn.Sequential(*blocks)


class OSNet(nn.Module):
    """The convolutional body: images (N, 3, H, W) to feature maps (N, ``channels``, H/16, W/16).

    The fully connected layer that follows the pooling in the paper belongs to :class:`models.reid.ReidNet`.
    """

    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        stem, first, second, third = channels
        self.conv1 = ConvLayer(3, stem, 7, stride=2, padding=3)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = _stage(stem, first, shrink=True)
        self.conv3 = _stage(first, second, shrink=True)
        self.conv4 = _stage(second, third, shrink=False)
        self.conv5 = ConvLayer(third, third, 1)
        self.channels = third
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.conv1(images))
        out: torch.Tensor = self.conv5(self.conv4(self.conv3(self.conv2(x))))
        return out
