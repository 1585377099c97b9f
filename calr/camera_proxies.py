"""Camera-aware proxies: one centroid for every (cluster, camera), so that what a cluster looks like in each of its
cameras is pulled together directly. Not in CALR: the inter-camera loss of Wang et al., "Camera-aware Proxies for
Unsupervised Person Re-Identification", AAAI 2021 (arXiv 2012.10674)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from calr.cluster_memory import follow
from calr.precision import send


class CameraProxies:
    """The proxies and their loss.

    For a crop with feature f of a cluster y, P are the proxies of y in the *other* cameras and H the `hardest` most
    similar proxies of other clusters:

        loss = -1/|P| Σ_{p in P} log( exp(f·p/t) / (Σ_{u: proxy of y} exp(f·u/t) + Σ_{h in H} exp(f·h/t)) )

    averaged over the batch's crops that have a P; 0 where none has. After the optimiser's step the crop's own proxy
    follows it: c <- normalise(momentum · c + (1 - momentum) · f), crop after crop.

    Args:
        features: (N, D) features of all crops, L2-normalised.
        labels: (N,) cluster of each crop, -1 = none.
        camera: (N,).
        temperature: t.
        momentum: share of the old proxy that stays.
        hardest: |H|, fewer where there are fewer.
        device: where the loss is computed.

    Raises:
        ValueError: no crop has a cluster.
    """

    def __init__(
        self,
        features: NDArray[np.float32],
        labels: NDArray[np.int64],
        camera: NDArray[np.int64],
        temperature: float = 0.07,
        momentum: float = 0.1,
        hardest: int = 50,
        device: str = "cpu",
    ) -> None:
        kept = np.flatnonzero(labels >= 0)
        if len(kept) == 0:
            raise ValueError("no crop is in a cluster, there are no proxies")
        cameras = int(camera.max()) + 1
        place, proxy = np.unique(labels[kept] * cameras + camera[kept], return_inverse=True)
        of_crop = np.full(len(labels), -1, dtype=np.int64)
        of_crop[kept] = proxy
        total = np.zeros((len(place), features.shape[1]), dtype=np.float64)
        np.add.at(total, proxy, features[kept])
        self.centroids = F.normalize(torch.from_numpy(total), dim=1).float().to(device)
        self.of_crop = torch.from_numpy(of_crop)
        self.cluster = torch.from_numpy(place // cameras).to(device)
        self.temperature, self.momentum, self.hardest = temperature, momentum, hardest

    def loss(self, features: Tensor, crops: Tensor) -> Tensor:
        """Scalar; features (B, D) L2-normalised float32, crops (B,) on the CPU, each in a cluster. See the class."""
        logits = features @ self.centroids.T / self.temperature
        own = send(self.of_crop[crops], self.centroids.device)
        same = self.cluster[None, :] == self.cluster[own][:, None]
        elsewhere = same.clone()
        elsewhere[torch.arange(len(crops), device=elsewhere.device), own] = False
        rivals = logits.masked_fill(same, float("-inf")).topk(min(self.hardest, logits.shape[1]), dim=1).values
        everything = torch.logsumexp(torch.cat([logits.masked_fill(~same, float("-inf")), rivals], dim=1), dim=1)
        count = elsewhere.sum(1)
        each = ((everything[:, None] - logits) * elsewhere).sum(1) / count.clamp(min=1)
        return each.sum() / (count > 0).sum().clamp(min=1)

    def update(self, features: Tensor, crops: Tensor) -> None:
        """Move the proxies of the batch. features (B, D) L2-normalised, crops (B,) on the CPU."""
        follow(self.centroids, features, self.of_crop[crops], self.momentum)
