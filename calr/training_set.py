"""What the method learns from: crops as arrays, and what is known about them without anybody naming a person."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calr.local_clusters import overlapping_nodes
from models.preprocess import resize_crop

if TYPE_CHECKING:
    from ingest.shards import CropSet

BYTES_IN_MEMORY = 4 * 2**30
"""Decoded crops above this size are kept in a file that the system pages in and out, not in memory."""


@dataclass(frozen=True)
class TrainingSet:
    """N crops in M nodes out of C cameras. A node is a tracklet, or one crop where there are no tracklets.

    Attributes:
        images: (N, 3, h, w) uint8 RGB, at the network's input size.
        node: (N,) int64, node of each crop.
        camera: (N,) int64, index into `camera_ids`.
        node_camera: (M,) int64.
        cannot_link: (P, 2) int64 pairs of nodes that are two people.
        camera_ids: C names.
        identity: (N,) int64 true person, -1 for nobody, or None. For reporting, and for training the ceiling.
    """

    images: Tensor
    node: NDArray[np.int64]
    camera: NDArray[np.int64]
    node_camera: NDArray[np.int64]
    cannot_link: NDArray[np.int64]
    camera_ids: list[str]
    identity: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.node)

    @property
    def nodes(self) -> int:
        """M."""
        return len(self.node_camera)

    def of_camera(self, camera: int) -> TrainingSet:
        """One camera's crops as a set of their own; its nodes in their order, numbered anew."""
        crops, nodes = np.flatnonzero(self.camera == camera), self.node_camera == camera
        number = np.cumsum(nodes) - 1
        inside = nodes[self.cannot_link].all(1)
        return TrainingSet(
            images=self.images[torch.from_numpy(crops)],
            node=number[self.node[crops]],
            camera=self.camera[crops],
            node_camera=self.node_camera[nodes],
            cannot_link=number[self.cannot_link[inside]],
            camera_ids=self.camera_ids,
            identity=None if self.identity is None else self.identity[crops],
        )

    @property
    def crops_per_node(self) -> NDArray[np.int64]:
        """(M,)."""
        return np.bincount(self.node, minlength=self.nodes)

    @property
    def has_tracklets(self) -> bool:
        """Whether some node has several crops."""
        return self.nodes < len(self)


def decode_crops(
    image: Callable[[int], NDArray[np.uint8]],
    count: int,
    size: tuple[int, int],
    cache: Path | None = None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Decode and resize crops once, for all epochs.

    Args:
        image: crop number -> (H, W, 3) uint8 BGR; called from several threads.
        count: N.
        size: (h, w).
        cache: a file to keep the pixels in when they are more than `BYTES_IN_MEMORY`; it is overwritten.
        on_step: told (done, total) now and then.

    Returns:
        (N, 3, h, w) uint8 RGB.
    """
    shape = (count, 3, *size)
    if cache is not None and int(np.prod(shape)) > BYTES_IN_MEMORY:
        pixels: NDArray[np.uint8] = np.memmap(cache, dtype=np.uint8, mode="w+", shape=shape)
    else:
        pixels = np.empty(shape, dtype=np.uint8)

    def fill(part: range) -> int:
        for i in part:
            pixels[i] = resize_crop(image(i), size).transpose(2, 0, 1)
        return len(part)

    parts = [range(start, min(start + 64, count)) for start in range(0, count, 64)]
    done = 0
    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
        for finished in pool.map(fill, parts):
            done += finished
            on_step(done, count)
    return torch.from_numpy(pixels)


def from_crop_set(
    crops: CropSet,
    size: tuple[int, int],
    cache: Path | None = None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> TrainingSet:
    """The training set of a site's shards: nodes are tracklets, tracklets of one recording that overlap in time cannot
    be one person. Arguments as in `decode_crops`."""
    used, node = np.unique(crops.tracklet, return_inverse=True)
    pts = crops.tracklet_pts[used]
    people = crops.identities()
    return TrainingSet(
        images=decode_crops(crops.image, len(crops), size, cache, on_step),
        node=node.astype(np.int64),
        camera=crops.camera.copy(),
        node_camera=crops.tracklet_camera[used],
        cannot_link=overlapping_nodes(crops.tracklet_camera[used], crops.tracklet_video[used], pts[:, 0], pts[:, 1]),
        camera_ids=list(crops.camera_ids),
        identity=None if people is None else people[crops.tracklet],
    )


def from_single_crops(
    images: Tensor, camera: NDArray[np.int64], camera_ids: Sequence[str], identity: NDArray[np.int64] | None = None
) -> TrainingSet:
    """A training set without tracklets (a public data set): every crop is a node of its own."""
    n = len(images)
    return TrainingSet(
        images=images,
        node=np.arange(n, dtype=np.int64),
        camera=camera,
        node_camera=camera.copy(),
        cannot_link=np.zeros((0, 2), dtype=np.int64),
        camera_ids=list(camera_ids),
        identity=identity,
    )
