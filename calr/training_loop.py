"""One epoch of training: batches in, optimiser steps out. The same for both stages and for training with labels.

What is learnt is a list of terms; each adds a loss and may follow up after the step. Leaving a part of the method out
is leaving its term out of the list.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from calr.augment import Augment
from calr.camera_alignment import CameraClassifier
from calr.camera_proxies import CameraProxies
from calr.cluster_memory import ClusterMemory
from calr.data_parallel import combine, gather, own_share, units
from calr.precision import Precision, send
from calr.training_pass import Forward
from models.reid import ReidNet


class TrainError(ValueError):
    """Training cannot be done or cannot go on; the message says why and what to do."""


class Term(Protocol):
    """A part of the objective."""

    name: str

    def loss(self, features: Tensor, crops: NDArray[np.int64]) -> Tensor:
        """Scalar loss of a batch. features (B, D) float32 as the network gives them, crops (B,) crop indices."""

    def after_step(self, features: Tensor, crops: NDArray[np.int64]) -> None:
        """Called after the optimiser's step with the same (detached) features."""

    def measures(self) -> dict[str, float]:
        """What is worth logging about the epoch, besides the loss."""


class ContrastiveTerm:
    """Cluster contrast (CALR equations 2 and 8).

    Args:
        memory: the clusters' centroids.
        labels: (N,) cluster of every crop.
        weights: (C,) weight of each cluster, or None.
        device: where features come from.
    """

    name = "contrastive"

    def __init__(
        self, memory: ClusterMemory, labels: NDArray[np.int64], weights: NDArray[np.float64] | None, device: str
    ) -> None:
        self.memory = memory
        self._labels, self._device = torch.from_numpy(labels), device
        self._weights = None if weights is None else torch.from_numpy(weights).float().to(device)

    def _of(self, crops: NDArray[np.int64]) -> Tensor:
        return self._labels[torch.from_numpy(crops)]

    def loss(self, features: Tensor, crops: NDArray[np.int64]) -> Tensor:
        """See `ClusterMemory.loss`."""
        return self.memory.loss(F.normalize(features, dim=1), send(self._of(crops), self._device), self._weights)

    def after_step(self, features: Tensor, crops: NDArray[np.int64]) -> None:
        """See `ClusterMemory.update`."""
        self.memory.update(F.normalize(features, dim=1), self._of(crops))

    def measures(self) -> dict[str, float]:
        """Nothing."""
        return {}


class ProxyTerm:
    """Camera-aware proxies: weight × `CameraProxies.loss`.

    Args:
        proxies: of the epoch's clusters.
        weight: factor of the loss.
    """

    name = "proxies"

    def __init__(self, proxies: CameraProxies, weight: float) -> None:
        self._proxies, self._weight = proxies, weight

    def loss(self, features: Tensor, crops: NDArray[np.int64]) -> Tensor:
        """See `CameraProxies.loss`."""
        return self._weight * self._proxies.loss(F.normalize(features, dim=1), torch.from_numpy(crops))

    def after_step(self, features: Tensor, crops: NDArray[np.int64]) -> None:
        """See `CameraProxies.update`."""
        self._proxies.update(F.normalize(features, dim=1), torch.from_numpy(crops))

    def measures(self) -> dict[str, float]:
        """Nothing."""
        return {}


class AlignmentTerm:
    """Camera alignment: weight × cross-entropy of the camera classifier behind a gradient reversal.

    Args:
        classifier: its parameters must be in the optimiser.
        camera: (N,) camera of every crop.
        weight: factor of the loss.
        device: where features come from.
    """

    name = "alignment"

    def __init__(self, classifier: CameraClassifier, camera: NDArray[np.int64], weight: float, device: str) -> None:
        self.classifier = classifier
        self._camera = torch.from_numpy(camera).to(device)
        self._weight = weight
        self._right: Tensor | int = 0
        self._seen = 0

    def loss(self, features: Tensor, crops: NDArray[np.int64]) -> Tensor:
        """Scalar; counts how often the classifier was right."""
        camera = self._camera[send(torch.from_numpy(crops), self._camera.device)]
        logits = self.classifier(features)
        self._right = self._right + (logits.argmax(1) == camera).sum()
        self._seen += len(crops)
        return self._weight * F.cross_entropy(logits, camera)

    def after_step(self, features: Tensor, crops: NDArray[np.int64]) -> None:
        """Nothing to follow up."""

    def measures(self) -> dict[str, float]:
        """camera_accuracy: share of the epoch's crops whose camera the classifier told."""
        return {"camera_accuracy": int(self._right) / max(self._seen, 1)}


def train_epoch(
    net: ReidNet,
    forward: Forward,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    batches: Iterable[NDArray[np.int64]],
    augment: Augment,
    terms: Sequence[Term],
    precision: Precision,
    ghost: int | None,
    on_step: Callable[[int], None] = lambda done: None,
) -> dict[str, float]:
    """Train on every batch once, together with the other processes where there are any (`calr.data_parallel`).

    Args:
        net: whose weights learn.
        forward: its pass (`calr.training_pass`).
        optimiser: over the parameters of the net and of the terms.
        images: (N, 3, h, w) uint8 RGB.
        batches: crop indices, (B,) each.
        augment: applied to every batch.
        terms: the objective.
        precision: device and number format.
        ghost: images that are normalised together, the smallest part of a batch that a process can take; None = all.
        on_step: told how many batches are done.

    Returns:
        loss (mean over the batches), loss_<term> for each term, and what the terms measure.

    Raises:
        TrainError: the loss or a weight is no longer a finite number.
    """
    net.train()
    losses: list[Tensor] = []
    for crops in batches:
        # All of the batch everywhere: what is drawn for an image must not depend on the number of processes.
        drawn = send(torch.from_numpy(crops), images.device)
        batch = augment(precision.place(images[drawn]))
        unit = ghost or len(crops)
        own = own_share(len(crops), unit)
        features = gather(forward(batch[own]), len(crops), unit)
        parts = torch.stack([term.loss(features, crops) for term in terms])
        loss = parts.sum()
        optimiser.zero_grad(set_to_none=True)
        if loss.requires_grad:  # not where another process has the whole batch
            loss.backward()  # type: ignore[no-untyped-call]
        combine(net, units(own, unit) / units(slice(0, len(crops)), unit))
        optimiser.step()
        for term in terms:
            term.after_step(features.detach(), crops)
        losses.append(parts.detach())
        on_step(len(losses))
    # Read once, at the end: a GPU that is asked after every batch waits for the next one.
    values = torch.stack(losses).tolist() if losses else []
    for done, of_terms in enumerate(values, start=1):
        if not math.isfinite(sum(of_terms)):
            raise TrainError(f"the loss became {sum(of_terms)} in batch {done}; are the start weights damaged?")
    if not all(bool(torch.isfinite(parameter).all()) for parameter in net.parameters()):
        # A finite loss can have a gradient that is not; such weights must not reach a checkpoint.
        raise TrainError("the network's weights are no longer finite numbers; are the start weights damaged?")
    totals = [sum(of_term) for of_term in zip(*values, strict=True)] or [0.0] * len(terms)
    measured = {f"loss_{term.name}": total / max(len(values), 1) for term, total in zip(terms, totals, strict=True)}
    measured["loss"] = sum(totals) / max(len(values), 1)
    for term in terms:
        measured.update(term.measures())
    return measured


def epoch_seed(seed: int, stage: str, epoch: int, purpose: str) -> int:
    """A seed in 1..2^31-1 for one purpose of one epoch.

    No random state lives longer than an epoch, so a checkpoint at an epoch's end need not store any and a resumed run
    draws what an undisturbed one draws.
    """
    digest = hashlib.sha256(f"{seed}/{stage}/{epoch}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (2**31 - 1) + 1


def adam(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Adam:
    """The method's optimiser over the parameters that learn."""
    return torch.optim.Adam([p for p in parameters if p.requires_grad], lr=lr, weight_decay=weight_decay)


def decayed_lr(lr: float, epoch: int, step: int) -> float:
    """lr × 0.1 for every `step` epochs done. epoch counts from 0."""
    return float(lr * 0.1 ** (epoch // step))


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Change the step size of all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = lr
