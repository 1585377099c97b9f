"""Contrastive loss over cluster centroids, kept in a memory that follows the encoder (Cluster Contrast, Dai et al.,
ACCV 2022; the loss of CALR equations 2 and 8)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from calr.precision import send


class ClusterMemory:
    """One centroid per cluster.

    loss(f, y) = cross-entropy of f·centroids / temperature against y. After the optimiser's step `update` moves the
    centroids of the batch: c_y <- normalise(momentum · c_y + (1 - momentum) · f), sample after sample.

    With `cameras` a sample is only compared with clusters that share a camera with its own. In intra-camera training
    that makes one object out of the per-camera memories. In inter-camera training it spares pairs of clusters without a
    common camera: nobody has seen them side by side, and while clusters are still incomplete they often are one person.

    Args:
        centroids: (C, D), normalised here.
        temperature: divides the similarities (0.05).
        momentum: share of the old centroid that stays (0.1).
        cameras: (C, K) bool, which cameras each cluster is seen by; None = every sample sees every centroid.

    Raises:
        ValueError: no centroid, or cameras for another number of clusters.
    """

    def __init__(
        self, centroids: Tensor, temperature: float = 0.05, momentum: float = 0.1, cameras: Tensor | None = None
    ) -> None:
        if centroids.ndim != 2 or len(centroids) == 0:
            raise ValueError(f"centroids have shape {tuple(centroids.shape)}, a memory needs (C, D) with C > 0")
        if cameras is not None and len(cameras) != len(centroids):
            raise ValueError(f"cameras of {len(cameras)} clusters for {len(centroids)} centroids")
        self.centroids = F.normalize(centroids.detach().float(), dim=1)
        self.temperature = temperature
        self.momentum = momentum
        self.cameras = None if cameras is None else cameras.float()

    def loss(self, features: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean over the batch of weight[label] · cross-entropy.

        Args:
            features: (B, D) L2-normalised, any float type (computed in float32).
            labels: (B,) int64 cluster of each sample.
            weights: (C,) weight of each cluster, or None = 1.

        Returns:
            Scalar; the gradient flows into features only.
        """
        logits = features.float() @ self.centroids.T / self.temperature
        if self.cameras is not None:
            shared = self.cameras[labels] @ self.cameras.T
            logits = logits.masked_fill(shared == 0, float("-inf"))
        each = F.cross_entropy(logits, labels, reduction="none")
        return (each if weights is None else each * weights[labels]).mean()

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the centroids of the batch. features (B, D) L2-normalised, labels (B,) on the CPU."""
        follow(self.centroids, features.detach().float(), labels, self.momentum)


@torch.no_grad()
def follow(centroids: Tensor, features: Tensor, labels: Tensor, momentum: float) -> None:
    """c <- normalise(momentum · c + (1 - momentum) · f), in place, sample after sample.

    Args:
        centroids: (C, D).
        features: (B, D) float32 on the same device.
        labels: (B,) int64 on the CPU, the centroid of each sample. There, because a GPU would have to be waited for.
        momentum: share of the old centroid that stays.
    """
    # Centroids do not touch each other: the first sample of each at once, then every second one, ...
    order = torch.argsort(labels, stable=True)
    ordered = labels[order]
    turn = torch.arange(len(labels)) - torch.searchsorted(ordered, ordered)
    by_turn, sizes = torch.argsort(turn, stable=True), torch.bincount(turn).tolist()
    rows, places = (send(index[by_turn], centroids.device) for index in (order, ordered))
    for row, place in zip(torch.split(rows, sizes), torch.split(places, sizes), strict=True):
        moved = momentum * centroids[place] + (1 - momentum) * features[row]
        centroids[place] = F.normalize(moved, dim=1)


def cluster_cameras(labels: Tensor, camera: Tensor, cameras: int) -> Tensor:
    """(C, cameras) bool, which cameras see each of the clusters 0..C-1. labels (N,), -1 = left out; camera (N,)."""
    kept = labels >= 0
    seen = torch.zeros(int(labels.max()) + 1 if bool(kept.any()) else 0, cameras, dtype=torch.bool)
    seen[labels[kept], camera[kept]] = True
    return seen


def cluster_centroids(features: Tensor, labels: Tensor) -> Tensor:
    """(C, D) normalised mean feature of clusters 0..C-1. features (N, D); labels (N,), -1 = left out."""
    kept = labels >= 0
    count = int(labels.max()) + 1 if bool(kept.any()) else 0
    total = torch.zeros(count, features.shape[1], dtype=torch.float64)
    total.index_add_(0, labels[kept].cpu(), features[kept].double().cpu())
    return F.normalize(total, dim=1).float().to(features.device)
