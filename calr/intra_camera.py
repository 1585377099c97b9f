"""Stage 1, intra-camera training (CALR section 3.1) in its joint form: one encoder for all, a memory per camera.

The published form trains one encoder per camera, which does not scale to a hundred cameras. Here every sample is only
compared with the clusters of its own camera, so nothing is said across cameras, but all cameras shape one encoder.
What stage 2 takes from here are the **local clusters** of the epoch with the best silhouette.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calr.augment import Augment
from calr.checkpoint import module_tensors, optimiser_tensors, restore_module, restore_optimiser
from calr.cluster_memory import ClusterMemory, cluster_cameras, cluster_centroids
from calr.cluster_quality import cluster_quality
from calr.data_parallel import Found, agree
from calr.features import extract_together
from calr.local_clusters import local_clusters
from calr.precision import Precision
from calr.profiles import Profile, Stage
from calr.sampler import BalancedBatches
from calr.silhouette import silhouette
from calr.training_loop import ContrastiveTerm, adam, decayed_lr, epoch_seed, set_lr, train_epoch
from calr.training_pass import training_pass
from calr.training_set import TrainingSet
from models.reid import ReidNet

Progress = Callable[[str, int, int], None]
"""Told (what is being done, done, total)."""


class IntraCamera:
    """The stage as an object that runs epoch by epoch and can be stored and restored between two of them.

    Args:
        net: encoder with its start weights; trained in place.
        data: the crops.
        profile: settings; `profile.intra` must not be None.
        seed: of every random choice.
        precision: device and number format.

    Attributes:
        epoch, epochs: how many are done, and how many there are at most.
        finished: nothing is left to do.
        local: local clusters of the best epoch so far.
        best_epoch: which one that was.
    """

    name = "intra"

    def __init__(self, net: ReidNet, data: TrainingSet, profile: Profile, seed: int, precision: Precision) -> None:
        if profile.intra is None:
            raise ValueError(f"profile {profile.name} has no intra-camera stage")
        self.net, self.data, self.profile, self.seed, self.precision = net, data, profile, seed, precision
        self.stage: Stage = profile.intra
        self._forward = training_pass(net, precision)
        self.optimiser = adam(net.parameters(), self.stage.lr, profile.weight_decay)
        self.epoch, self.epochs = 0, self.stage.epochs
        self.finished = False
        self.local: LocalClusters | None = None
        self.best_epoch = -1

    def run_epoch(self, on_step: Progress) -> tuple[dict[str, Any], dict[str, NDArray[np.int64]]]:
        """Cluster every camera, then train on what was found (unless this was the last round).

        Returns:
            The epoch's line for metrics.jsonl, and the labels found, each (M,).
        """
        began = time.monotonic()
        data, stage, profile = self.data, self.stage, self.profile
        features = extract_together(
            self.net, data.images, self.precision, profile.feature_batch, lambda i, n: on_step("features", i, n)
        )
        judged, labels = agree(lambda: self._cluster(features), self.precision.device)
        found = LocalClusters(labels["local"], judged["silhouette"])
        if found.better_than(self.local):
            self.local, self.best_epoch = found, self.epoch
        record: dict[str, Any] = {"stage": self.name, "epoch": self.epoch, **judged, "best_epoch": self.best_epoch}
        waited = self.epoch - self.best_epoch
        self.finished = self.epoch + 1 >= stage.epochs or (stage.patience is not None and waited >= stage.patience)
        if not self.finished:
            lr = decayed_lr(stage.lr, self.epoch, stage.lr_step)
            set_lr(self.optimiser, lr)
            record |= {"lr": lr, **self._train(features, found.labels[data.node], on_step)}
        self.epoch += 1
        record["seconds"] = time.monotonic() - began
        return record, labels

    def _cluster(self, features: NDArray[np.float32]) -> Found:
        found = find_local_clusters(features, self.data, self.profile)
        record = {"clusters": found.count, "silhouette": found.silhouette, **found.quality(self.data)}
        return record, {"local": found.labels}

    def _train(self, features: NDArray[np.float32], labels: NDArray[np.int64], on_step: Progress) -> dict[str, float]:
        data, device = self.data, self.precision.device
        # A single crop has nothing to be pulled to: it stays in the memory as a contrast, but is not drawn.
        drawn = np.where(np.bincount(labels)[labels] > 1, labels, -1)
        if not (drawn >= 0).any():
            return {}
        memory = ClusterMemory(
            cluster_centroids(torch.from_numpy(features), torch.from_numpy(labels)).to(device),
            self.profile.temperature,
            self.profile.momentum,
            cluster_cameras(torch.from_numpy(labels), torch.from_numpy(data.camera), len(data.camera_ids)).to(device),
        )
        iterations = self.stage.iterations(len(data))
        batches = BalancedBatches(
            drawn,
            data.camera,
            data.node,
            self.stage.clusters,
            self.stage.crops,
            iterations,
            epoch_seed(self.seed, self.name, self.epoch, "batches"),
        )
        return train_epoch(
            self.net,
            self._forward,
            self.optimiser,
            data.images,
            batches,
            make_augment(self.profile, data, epoch_seed(self.seed, self.name, self.epoch, "augment")),
            [ContrastiveTerm(memory, labels, None, device)],
            self.precision,
            self.profile.ghost_batch,
            lambda done: on_step("training", done, iterations),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs as tensors."""
        return {
            **module_tensors("net", self.net),
            **optimiser_tensors(self.optimiser),
            **local_tensors(self.local),
        }

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs as JSON."""
        return {
            "epoch": self.epoch,
            "finished": self.finished,
            "local_silhouette": None if self.local is None else self.local.silhouette,
            "best_epoch": self.best_epoch,
        }

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint of this stage."""
        restore_module("net", self.net, tensors)
        restore_optimiser(self.optimiser, tensors)
        self.local = restore_local(tensors, state)
        self.epoch, self.finished = int(state["epoch"]), bool(state["finished"])
        self.best_epoch = int(state["best_epoch"])


@dataclass(frozen=True)
class LocalClusters:
    """Who is who inside each camera: (M,) label of every node, no label in two cameras; and the mean silhouette of the
    crops among the clusters of their camera, which is how clusters of different epochs are compared."""

    labels: NDArray[np.int64]
    silhouette: float

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.labels.max(initial=-1)) + 1

    def better_than(self, other: LocalClusters | None) -> bool:
        """Whether these are to be trusted rather than the others."""
        return other is None or self.silhouette > other.silhouette

    def quality(self, data: TrainingSet) -> dict[str, Any]:
        """{"local": `cluster_quality`} where true identities are known, else nothing.

        Pairs across cameras do not count: they are no local cluster's business.
        """
        if data.identity is None:
            return {}
        person = np.where(data.identity >= 0, data.identity * len(data.camera_ids) + data.camera, -1)
        return {"local": cluster_quality(self.labels[data.node], person)}


def find_local_clusters(features: NDArray[np.float32], data: TrainingSet, profile: Profile) -> LocalClusters:
    """Local clusters of every camera by the profile's settings; features (N, D) of the crops, L2-normalised."""
    how = profile.local
    found = local_clusters(features, data.node, data.node_camera, how.max_distance, how.k1, how.k2, data.cannot_link)
    return LocalClusters(found, silhouette(features, found[data.node], data.camera))


def local_tensors(local: LocalClusters | None) -> dict[str, Tensor]:
    """What a checkpoint stores of local clusters, besides "local_silhouette" in its state."""
    return {} if local is None else {"labels.local": torch.from_numpy(local.labels)}


def restore_local(tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> LocalClusters | None:
    """Local clusters as a checkpoint stored them, if it did."""
    if "labels.local" not in tensors:
        return None
    return LocalClusters(tensors["labels.local"].numpy(), float(state["local_silhouette"]))


def make_augment(profile: Profile, data: TrainingSet, seed: int) -> Augment:
    """The profile's augmentation for the data's image height."""
    settings = profile.augmentation
    return Augment(round(settings.pad * data.images.shape[2] / 256), settings.colour, settings.erase, seed)
