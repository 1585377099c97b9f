"""The network that turns a normalised crop into an embedding: a body, a pooling, a neck."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from models.mobilenet import MobileNetV2
from models.osnet import CHANNELS as OSNET_CHANNELS
from models.osnet import FEATURE_DIM, OSNet
from models.pooling import POOLINGS, Pooling, make_pooling
from models.resnet import ResNet50
from models.resnet_ibn import IbnResNet50a

_BODIES: dict[str, Callable[[], nn.Module]] = {
    "osnet_x0_25": lambda: OSNet(OSNET_CHANNELS["osnet_x0_25"]),
    "osnet_x1_0": lambda: OSNet(OSNET_CHANNELS["osnet_x1_0"]),
    "resnet50": ResNet50,
    "ibn_resnet50_a": IbnResNet50a,
    "mobilenet_v2": MobileNetV2,
}

ARCHITECTURES: tuple[str, ...] = tuple(_BODIES)


class ReidNet(nn.Module):
    """Body → pooling → neck.

    The neck ends in a batch norm, whose output is the embedding for the losses and for search alike (both normalise it
    to length 1). For OSNet the neck is the network's own fully connected layer and batch norm, **without** the ReLU
    that follows them in the paper: half of the space would be thrown away, and on Market-1501 the features before it
    are 1.5 points of mAP better. For the others it is a batch norm with its bias fixed at zero, so that the embeddings
    stay centred where cosine similarity needs them (BNNeck: Luo et al., CVPR Workshops 2019, section 3.6).

    Attributes:
        arch: a name of :data:`ARCHITECTURES`.
        pooling: "avg" or "gem".
        embedding_dim: D.
    """

    def __init__(self, arch: str, pooling: Pooling) -> None:
        super().__init__()
        self.arch = arch
        self.pooling: Pooling = pooling
        self.backbone = _BODIES[arch]()
        self.pool = make_pooling(pooling)
        channels = int(self.backbone.channels)  # type: ignore[arg-type]
        self.embedding_dim = FEATURE_DIM if arch in OSNET_CHANNELS else channels
        self.neck: nn.Module
        if arch in OSNET_CHANNELS:
            linear = nn.Linear(channels, FEATURE_DIM)
            nn.init.normal_(linear.weight, std=0.01)
            nn.init.zeros_(linear.bias)
            self.neck = nn.Sequential(linear, nn.BatchNorm1d(FEATURE_DIM))
        else:
            self.neck = nn.BatchNorm1d(channels)
            self.neck.bias.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed normalised images (N, 3, H, W) as (N, D), not of length 1."""
        out: torch.Tensor = self.neck(self.pool(self.backbone(images)))
        return out


def build_reid(arch: str, *, pooling: Pooling = "avg") -> ReidNet:
    """Build a network with random weights.

    Raises:
        ValueError: unknown architecture or pooling; the message names the known ones.
    """
    if arch not in _BODIES:
        raise ValueError(f"unknown architecture {arch!r}; known: {', '.join(ARCHITECTURES)}")
    if pooling not in POOLINGS:
        raise ValueError(f"unknown pooling {pooling!r}; known: {', '.join(POOLINGS)}")
    return ReidNet(arch, pooling)
