"""Toy identities: a person is a set of colours, a camera a tint. Small enough to train on in seconds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calr.training_set import TrainingSet


def toy_people(
    people: int = 10, cameras: int = 2, crops: int = 6, size: tuple[int, int] = (32, 16), seed: int = 0
) -> TrainingSet:
    """A training set with one tracklet per person and camera: three coloured bands (hair, top, legs) on noise, under
    each camera's own light."""
    draw = np.random.default_rng(seed)
    h, w = size
    bands = draw.uniform(30, 225, (people, 3, 3))
    light = draw.uniform(0.45, 1.0, (cameras, 3))
    images, node, node_camera, identity = [], [], [], []
    for camera in range(cameras):
        for person in range(people):
            node_camera.append(camera)
            for _ in range(crops):
                image = draw.uniform(60, 190, (3, h, w))
                left, right = draw.integers(2, 4), w - draw.integers(2, 4)
                shift = int(draw.integers(-2, 3))
                for band, (top, bottom) in enumerate(((0.05, 0.25), (0.25, 0.6), (0.6, 1.0))):
                    rows = slice(max(0, int(top * h) + shift), max(0, int(bottom * h) + shift))
                    image[:, rows, left:right] = bands[person, band][:, None, None]
                image = image * light[camera][:, None, None] + draw.normal(0, 12, image.shape)
                images.append(np.clip(image, 0, 255).astype(np.uint8))
                node.append(len(node_camera) - 1)
                identity.append(person)
    nodes = np.asarray(node, dtype=np.int64)
    return TrainingSet(
        images=torch.from_numpy(np.stack(images)),
        node=nodes,
        camera=np.asarray(node_camera, dtype=np.int64)[nodes],
        node_camera=np.asarray(node_camera, dtype=np.int64),
        cannot_link=np.zeros((0, 2), dtype=np.int64),
        camera_ids=[f"cam{c}" for c in range(cameras)],
        identity=np.asarray(identity, dtype=np.int64),
    )


class ToyNet(nn.Module):
    """A few layers with what the method needs of a `ReidNet`."""

    arch, pooling, embedding_dim = "toy", "avg", 32

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Conv2d(3, 16, 3, stride=2, padding=1),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d((4, 1)),
                nn.Flatten(),
                nn.Linear(128, self.embedding_dim),
                nn.BatchNorm1d(self.embedding_dim),
            )

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.body(images)
        return out


def cross_camera_map(features: NDArray[np.float32], data: TrainingSet) -> float:
    """mAP of crops searching the other cameras' crops, the plain way."""
    assert data.identity is not None
    precisions = []
    for i in range(len(data)):
        rivals = np.flatnonzero(data.camera != data.camera[i])
        order = rivals[np.argsort(-(features[rivals] @ features[i]), kind="stable")]
        hits = np.flatnonzero(data.identity[order] == data.identity[i])
        precisions.append(np.mean((np.arange(len(hits)) + 1) / (hits + 1)))
    return float(np.mean(precisions))
